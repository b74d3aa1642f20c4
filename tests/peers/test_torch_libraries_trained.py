"""Policies that rl_games, Tianshou, TorchRL and a program like CleanRL's trained act alike in PyTorch and in Flax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not __import__("importlib").util.find_spec("rl_games"):
    pytest.skip("the libraries are installed by the session `peers` alone", allow_module_level=True)

import gymnasium
import torch
from torch import nn

from tests.peers.acting import HIDDEN, Actor, assert_acts_alike

pytestmark = pytest.mark.filterwarnings("ignore")

OBSERVATIONS = np.random.default_rng(0).normal(size=(100, 4)).astype("float32") * 3
PENDULUM = OBSERVATIONS[:, :3]
ENVS = 8


class Pushed:
    """A state that is pushed about, for as many environments as are asked for."""

    def __init__(self, envs: int = ENVS) -> None:
        import gym

        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))
        self.action_space = gym.spaces.Box(-1, 1, (2,))
        self.random, self.steps = np.random.default_rng(0), 0
        self.state = self.random.normal(1, 3, (envs, 4)).astype("float32")

    def get_env_info(self) -> dict[str, Any]:
        return {"observation_space": self.observation_space, "action_space": self.action_space}

    def get_number_of_agents(self) -> int:
        return 1

    def has_action_mask(self) -> bool:
        return False

    def set_train_info(self, *_: Any, **__: Any) -> None:
        """Take what nobody needs."""

    def get_env_state(self) -> None:
        """Have no state."""

    def reset(self) -> Any:
        return self.state

    def step(self, actions: Any) -> Any:
        self.steps += 1
        self.state = (0.9 * self.state + self.random.normal(size=self.state.shape)).astype("float32")
        self.state[:, :2] += actions
        done = np.full(len(self.state), self.steps % 20 == 0)
        return self.state, -np.square(self.state).mean(-1).astype("float32"), done, {}


def rl_games_configuration(directory: Path, separate: bool) -> dict[str, Any]:
    nothing = {"name": "default"}
    space = {"mu_activation": "None", "sigma_activation": "None", "mu_init": nothing, "fixed_sigma": True}
    space["sigma_init"] = {"name": "const_initializer", "val": 0}
    network = {"name": "actor_critic", "separate": separate, "space": {"continuous": space}}
    network["mlp"] = {"units": [*HIDDEN], "activation": "elu", "initializer": nothing}
    config = {"name": "pushed", "env_name": "pushed", "train_dir": str(directory), "full_experiment_name": "pushed"}
    config |= {"device": "cpu", "device_name": "cpu", "normalize_input": True, "normalize_value": True, "ppo": True}
    config |= {"reward_shaper": {"scale_value": 1.0}, "normalize_advantage": True, "gamma": 0.99, "tau": 0.95}
    config |= {"learning_rate": 1e-3, "lr_schedule": "constant", "grad_norm": 1.0, "entropy_coef": 0.0}
    config |= {"truncate_grads": True, "e_clip": 0.2, "clip_value": True, "num_actors": ENVS, "horizon_length": 8}
    config |= {"minibatch_size": 32, "mini_epochs": 2, "critic_coef": 1.0, "bounds_loss_coef": 0.0, "max_epochs": 3}
    config |= {"save_best_after": 100, "save_frequency": 1, "score_to_win": 1e9, "mixed_precision": False}
    return {
        "params": {
            "seed": 1,
            "algo": {"name": "a2c_continuous"},
            "model": {"name": "continuous_a2c_logstd"},
            "network": network,
            "config": {**config, "print_stats": False, "player": {"games_num": 1}},
        }
    }


@pytest.mark.parametrize("separate", [False, True])
def test_rl_games(separate: bool, tmp_path: Path) -> None:
    """Trained for three epochs, on one trunk or on two; its player gives the same actions."""
    from rl_games.common import env_configurations, vecenv
    from rl_games.torch_runner import Runner

    vecenv.register("PUSHED", lambda _name, envs, **_: Pushed(envs))
    env_configurations.register("pushed", {"vecenv_type": "PUSHED", "env_creator": lambda **_: Pushed(1)})
    runner = Runner()
    runner.load(rl_games_configuration(tmp_path, separate))
    runner.run({"train": True})
    checkpoint = max(tmp_path.rglob("*.pth"))
    player = runner.create_player()
    player.restore(str(checkpoint))
    player.has_batch_dimension = True
    actions = player.get_action(torch.as_tensor(OBSERVATIONS), True).numpy()

    def normalised(x: Any, mean: Any, var: Any) -> Any:
        return np.clip((x - mean) / np.sqrt(var + 1e-5), -5, 5)

    actor = Actor(4, 2, "elu", normalised, lambda outputs: np.clip(outputs, -1, 1))
    for report in assert_acts_alike(checkpoint, actor, OBSERVATIONS, actions):
        assert report.reader == "rl_games"


def test_tianshou(tmp_path: Path) -> None:
    """Trained for an epoch, its statistics of observations in the file as its examples put them there."""
    from tianshou.data import Batch, Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv, VectorEnvNormObs
    from tianshou.policy import PPOPolicy
    from tianshou.trainer import OnpolicyTrainer
    from tianshou.utils.net.common import ActorCritic, Net
    from tianshou.utils.net.continuous import ActorProb, Critic

    torch.manual_seed(0)
    envs = VectorEnvNormObs(DummyVectorEnv([lambda: gymnasium.make("Pendulum-v1")] * 2))
    actor = ActorProb(Net(3, hidden_sizes=[*HIDDEN], activation=nn.Tanh), 1, unbounded=True)
    critic = Critic(Net(3, hidden_sizes=[*HIDDEN], activation=nn.Tanh))
    optimizer = torch.optim.Adam(ActorCritic(actor, critic).parameters(), lr=1e-3)
    how = {"action_space": gymnasium.spaces.Box(-2, 2, (1,)), "action_bound_method": "clip", "deterministic_eval": True}
    policy = PPOPolicy(actor, critic, optimizer, lambda *of: torch.distributions.Normal(*of), **how)
    collector = Collector(policy, envs, VectorReplayBuffer(256, 2))
    how = {"step_per_collect": 64, "verbose": False, "show_progress": False}
    OnpolicyTrainer(policy, collector, None, 1, 64, 2, 1, 32, **how).run()
    statistics = envs.get_obs_rms()
    torch.save({"model": policy.state_dict(), "obs_rms": statistics}, tmp_path / "policy.pth")
    policy.eval()
    with torch.no_grad():
        seen = Batch(obs=statistics.norm(PENDULUM).astype("float32"), info={})
        actions = policy.map_action(policy(seen).act.numpy())

    def normalised(x: Any, mean: Any, var: Any) -> Any:
        return np.clip((x - mean) / np.sqrt(var + statistics.eps), -10, 10)

    actor = Actor(3, 1, "tanh", normalised, lambda outputs: np.clip(outputs, -1, 1) * 2)
    for report in assert_acts_alike(tmp_path / "policy.pth", actor, PENDULUM, actions):
        assert report.reader == "tianshou"
        assert any("clipped to 10" in note for note in report.notes)


@pytest.mark.parametrize("standard", [True, False, None])
def test_torchrl(standard: bool | None, tmp_path: Path) -> None:
    """Trained for two batches behind an ObservationNorm of either kind, or a VecNorm; the policy gives the same."""
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.collectors import Collector
    from torchrl.envs import Compose, DoubleToFloat, GymEnv, ObservationNorm, TransformedEnv, VecNormV2
    from torchrl.envs.utils import ExplorationType, set_exploration_type
    from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    torch.manual_seed(0)
    keys = {"in_keys": ["observation"]}
    norm = VecNormV2(**keys) if standard is None else ObservationNorm(**keys, standard_normal=standard)
    env = TransformedEnv(GymEnv("Pendulum-v1"), Compose(norm, DoubleToFloat()))
    if standard is not None:
        norm.init_stats(num_iter=50, reduce_dim=0, cat_dim=0)
    size = {"depth": 2, "num_cells": HIDDEN[0], "activation_class": nn.Tanh}
    module = TensorDictModule(
        nn.Sequential(MLP(3, 2, **size), NormalParamExtractor()), **keys, out_keys=["loc", "scale"]
    )
    how = {"distribution_class": TanhNormal, "distribution_kwargs": {"low": -2.0, "high": 2.0}}
    actor = ProbabilisticActor(module, spec=env.action_spec, in_keys=["loc", "scale"], return_log_prob=True, **how)
    critic = ValueOperator(MLP(3, 1, **size), **keys)
    loss, advantage = ClipPPOLoss(actor, critic), GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    optimizer = torch.optim.Adam(loss.parameters(), 1e-3)
    for batch in Collector(env, actor, frames_per_batch=64, total_frames=128):
        advantage(batch)
        optimizer.zero_grad()
        sum(each for name, each in loss(batch.reshape(-1)).items() if name.startswith("loss_")).backward()
        optimizer.step()
    states = {"policy": actor.state_dict(), "value": critic.state_dict(), "env": env.state_dict()}
    torch.save(states | {"optimizer": optimizer.state_dict()}, tmp_path / "agent.pt")
    norm.eval()
    if standard is None:
        norm.freeze()
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        seen = TensorDict({"observation": torch.as_tensor(PENDULUM)}, [100])
        seen = norm._step(seen, seen) if standard is None else norm._call(seen)
        actions = actor(seen)["action"].numpy()

    def normalised(x: Any, mean: Any, var: Any) -> Any:
        return (x - mean) / np.maximum(np.sqrt(var), 1e-4)

    made = Actor(3, 2, "tanh", normalised, lambda outputs: 2 * np.tanh(outputs[:, :1]))
    for report in assert_acts_alike(tmp_path / "agent.pt", made, PENDULUM, actions):
        assert report.reader == "torchrl"


class Agent(nn.Module):
    """An agent as CleanRL's file on continuous actions has it: critic, mean of the actor, and a free deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
        self.actor_mean = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
        self.actor_logstd = nn.Parameter(torch.zeros(1, 1))

    def get_action_and_value(self, x: Any, action: Any = None) -> Any:
        normal = torch.distributions.Normal(self.actor_mean(x), self.actor_logstd.exp())
        action = normal.sample() if action is None else action
        return action, normal.log_prob(action).sum(1), normal.entropy().sum(1), self.critic(x)


@pytest.mark.parametrize("extension", [".cleanrl_model", ".safetensors"])
def test_cleanrl(extension: str, tmp_path: Path) -> None:
    """Trained for some steps by a program in one file; saved as CleanRL does, and as plain safetensors."""
    torch.manual_seed(0)
    agent, env = Agent(), gymnasium.make("Pendulum-v1")
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3, eps=1e-5)
    seen, _ = env.reset(seed=0)
    for _ in range(32):
        given = torch.as_tensor(seen[None])
        with torch.no_grad():
            action, *_ = agent.get_action_and_value(given)
        seen, reward, *_ = env.step(action[0].clamp(-2, 2).numpy())
        _, log_probability, entropy, value = agent.get_action_and_value(given, action)
        advantage = float(reward) - value
        optimizer.zero_grad()
        (advantage.square() - advantage.detach() * log_probability - 0.01 * entropy).mean().backward()
        optimizer.step()
    path = tmp_path / f"ppo_continuous_action{extension}"
    if extension == ".safetensors":
        __import__("safetensors.torch").torch.save_file(agent.state_dict(), path)
    else:
        torch.save(agent.state_dict(), path)
    with torch.no_grad():
        actions = agent.actor_mean(torch.as_tensor(PENDULUM)).numpy()
    for report in assert_acts_alike(path, Actor(3, 1, "tanh"), PENDULUM, actions):
        assert report.reader == "plain"
