"""Agents of rl_games in environments of Gymnasium, which are registered as its users do."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from typing import Any

import gymnasium
import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    from rl_games.common import env_configurations, vecenv
    from rl_games.common.ivecenv import IVecEnv
    from rl_games.torch_runner import Runner

SPACES = importlib.import_module("rl_games.common.a2c_common").gym.spaces
"""Those of Gymnasium, or of Gym in older ones."""

ENVS = 4

ELSEWHERE: dict[int, list[float]] = {}
"""By the id of a vector environment: the strength of each opponent, which no attribute has, as in a worker of Ray."""


class Gymnasiums(IVecEnv):  # type: ignore[misc]
    """A vector environment of Gymnasium, as rl_games calls it."""

    def __init__(self, name: str, num_envs: int, seed: int = 0) -> None:
        mode = gymnasium.vector.AutoresetMode.SAME_STEP
        makers = [lambda: gymnasium.make(name, max_episode_steps=7)] * num_envs
        self.envs: Any = gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode)
        self.seed: int | None = seed  # type: ignore[assignment]
        ELSEWHERE[id(self)] = [0.0] * num_envs

    def reset(self) -> Any:
        observations, _ = self.envs.reset(seed=self.seed)
        self.seed = None
        return observations.astype(np.float32)

    def step(self, actions: Any) -> Any:
        observations, rewards, terminated, truncated, _ = self.envs.step(np.asarray(actions))
        rewards = rewards - ELSEWHERE[id(self)]
        done = terminated | truncated
        return observations.astype(np.float32), rewards.astype(np.float32), done, {"time_outs": truncated}

    def set_weights(self, indices: Any, weights: Any) -> None:
        """Give environments an opponent; its strength is that of its weights."""
        strength = float(sum(each.double().abs().mean() for each in weights["model"].values()))
        for index in indices:
            ELSEWHERE[id(self)][index] = strength

    def get_env_info(self) -> dict[str, Any]:
        seen, action = self.envs.single_observation_space, self.envs.single_action_space
        is_discrete = isinstance(action, gymnasium.spaces.Discrete)
        own = SPACES.Discrete(int(action.n)) if is_discrete else SPACES.Box(action.low, action.high)
        return {"observation_space": SPACES.Box(seen.low, seen.high), "action_space": own}


def register() -> None:
    """Register environments of Gymnasium with rl_games, by their names."""
    vecenv.register("GYMNASIUM", lambda name, num_envs, **settings: Gymnasiums(name, num_envs, **settings))
    for name in ("Pendulum-v1", "CartPole-v1"):
        env_configurations.register(name, {"vecenv_type": "GYMNASIUM", "env_creator": lambda **_: None})


def configuration(kind: str, directory: str = "", epochs: int = 6) -> dict[str, Any]:
    """Return the configuration of a kind: "continuous", "discrete", "recurrent", "self-play" or "SAC"."""
    if kind == "SAC":
        return _configuration_of_sac(directory, epochs)
    nothing = {"name": "default"}
    is_discrete = kind == "discrete"
    space: dict[str, Any] = {"mu_activation": "None", "sigma_activation": "None", "mu_init": nothing}
    space |= {"fixed_sigma": True, "sigma_init": {"name": "const_initializer", "val": 0}}
    network = {"name": "actor_critic", "separate": False, "space": {"continuous": space}}
    if is_discrete:
        network["space"] = {"discrete": {}}
    network["mlp"] = {"units": [8], "activation": "elu", "initializer": nothing}
    if kind == "recurrent":
        network["rnn"] = {"name": "lstm", "units": 8, "layers": 1, "before_mlp": False}
    name = "CartPole-v1" if is_discrete else "Pendulum-v1"
    config = {"name": "learner", "env_name": name, "full_experiment_name": "learner"}
    config |= {"train_dir": directory or tempfile.mkdtemp()}
    config |= {"device": "cpu", "device_name": "cpu", "normalize_input": True, "normalize_value": True, "ppo": True}
    config |= {"reward_shaper": {"scale_value": 0.1}, "normalize_advantage": True, "gamma": 0.99, "tau": 0.95}
    config |= {"learning_rate": 1e-3, "lr_schedule": "adaptive", "kl_threshold": 0.008, "grad_norm": 1.0}
    config |= {"entropy_coef": 0.0, "truncate_grads": True, "e_clip": 0.2, "clip_value": True, "value_bootstrap": True}
    config |= {"num_actors": ENVS, "horizon_length": 8, "minibatch_size": 16, "mini_epochs": 2, "critic_coef": 1.0}
    config |= {"bounds_loss_coef": 0.0, "max_epochs": epochs, "save_best_after": 100, "save_frequency": 0}
    config |= {"score_to_win": 1e9, "mixed_precision": False, "print_stats": False, "seq_length": 4}
    if kind == "self-play":
        config["self_play_config"] = {"update_score": -1e9, "games_to_check": 6, "env_update_num": 2}
    algorithm = "a2c_discrete" if is_discrete else "a2c_continuous"
    model = "discrete_a2c" if is_discrete else "continuous_a2c_logstd"
    found = {"seed": 3, "algo": {"name": algorithm}, "model": {"name": model}, "network": network, "config": config}
    return {"params": found}


def _configuration_of_sac(directory: str, epochs: int) -> dict[str, Any]:
    network = {"name": "soft_actor_critic", "separate": True, "space": {"continuous": None}, "log_std_bounds": [-5, 2]}
    network["mlp"] = {"units": [8], "activation": "relu", "initializer": {"name": "default"}}
    config = {"name": "learner", "env_name": "Pendulum-v1", "full_experiment_name": "learner"}
    config |= {"train_dir": directory or tempfile.mkdtemp(), "device": "cpu", "normalize_input": True}
    config |= {"reward_shaper": {"scale_value": 0.1}, "gamma": 0.99, "init_alpha": 1.0, "alpha_lr": 5e-3}
    config |= {"actor_lr": 5e-3, "critic_lr": 5e-3, "critic_tau": 0.05, "batch_size": 16, "learnable_temperature": True}
    config |= {"num_steps_per_episode": 4, "num_warmup_steps": 2, "replay_buffer_size": 72, "num_actors": ENVS}
    config |= {"max_epochs": epochs, "save_best_after": 100, "print_stats": False, "max_env_steps": 7}
    model = {"name": "soft_actor_critic"}
    return {"params": {"seed": 3, "algo": {"name": "sac"}, "model": model, "network": network, "config": config}}


def runner(kind: str, observer: Any = None, directory: str = "", epochs: int = 6) -> Any:
    """Return a runner of a kind, each time the same."""
    register()
    made = Runner(observer)
    made.load(configuration(kind, directory, epochs))
    return made


def agent(kind: str, epochs: int = 6) -> Any:
    """Return an agent as a runner makes it."""
    made = runner(kind, epochs=epochs)
    return made.algo_factory.create(made.algo_name, base_name="run", params=made.params)
