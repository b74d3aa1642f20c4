"""Agents of skrl on PyTorch, of both its lines: the twelve of the table of metrics, in environments of Gymnasium."""

from __future__ import annotations

import importlib
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import gymnasium
    import skrl
    import torch
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model, TabularMixin
    from skrl.resources.noises.torch import OrnsteinUhlenbeckNoise
    from skrl.resources.preprocessors.torch import RunningStandardScaler
    from skrl.resources.schedulers.torch import KLAdaptiveLR
    from skrl.trainers.torch import SequentialTrainer

NEW = skrl.__version__ >= "2"
OBSERVED = "observations" if NEW else "states"
ENVS, EXTENSION = 2, ".pt"
PRELOADED = (__name__, "keepfast.experiment")
"""What processes that are to be killed need, imported once for all of them."""


def prepare() -> None:
    """Make ready a process of its own: nothing is to be done on PyTorch."""


class Net:
    """What all networks here have; it comes before skrl's own classes, which know nothing of it."""

    outputs, takes_actions = 1, False

    def __init__(self, env: Any, inputs: int | None = None) -> None:
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
        Model.__init__(self, **spaces)
        for mixin in (CategoricalMixin, DeterministicMixin, GaussianMixin):
            if isinstance(self, mixin):
                mixin.__init__(self)
        size = inputs or self.num_observations + self.takes_actions * self.num_actions
        self.net = torch.nn.Sequential(
            torch.nn.Linear(size, 16), torch.nn.Tanh(), torch.nn.Linear(16, self.outputs or self.num_actions)
        )
        if isinstance(self, GaussianMixin):
            self.log_std = torch.nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs: Any, role: str) -> Any:
        given = [inputs[OBSERVED], inputs["taken_actions"]] if self.takes_actions else [inputs[OBSERVED]]
        made = self.net(torch.cat(given, dim=-1))
        if not isinstance(self, GaussianMixin):
            return made, {}
        return (made, {"log_std": self.log_std}) if NEW else (made, self.log_std, {})


class Gaussian(Net, GaussianMixin, Model):
    outputs = 0


class Actor(Net, DeterministicMixin, Model):
    outputs = 0


class Categorical(Net, CategoricalMixin, Model):
    outputs = 0


class Value(Net, DeterministicMixin, Model):
    pass


class Critic(Value):
    takes_actions = True


class Table(TabularMixin, Model):
    """A table whose policy explores now and then."""

    def __init__(self, env: Any) -> None:
        Model.__init__(self, observation_space=env.observation_space, action_space=env.action_space, device=env.device)
        if NEW:  # one for all environments
            TabularMixin.__init__(self)
            table = torch.ones((self.num_observations, self.num_actions))
            self.q_table = torch.nn.Parameter(table, requires_grad=False)
        else:
            TabularMixin.__init__(self, num_envs=ENVS)
            self.q_table = torch.ones((ENVS, self.num_observations, self.num_actions))

    def compute(self, inputs: Any, role: str) -> Any:
        seen = inputs[OBSERVED].view(-1, 1)
        rows = self.q_table[seen] if NEW else self.q_table[torch.arange(ENVS).view(-1, 1), seen]
        best = torch.argmax(rows, dim=-1).view(-1, 1)
        explored = torch.randint(self.num_actions, best.shape)
        return torch.where(torch.rand(best.shape) < 0.3, explored, best), {}


class Motions(gymnasium.vector.VectorWrapper):
    """Tells the motions that AMP judges."""

    def step(self, actions: Any) -> Any:
        observations, rewards, terminated, truncated, infos = super().step(actions)
        return observations, rewards, terminated, truncated, {**infos, "amp_obs": torch.as_tensor(observations)}


class Flat(gymnasium.vector.VectorWrapper):
    """Takes the discrete actions of skrl 1.4.3, which come as rows."""

    def step(self, actions: Any) -> Any:
        return super().step(np.asarray(actions).reshape(-1))


TWO = {f"{target}critic_{number}": Critic for target in ("", "target_") for number in (1, 2)}
ON = {"rollouts": 16, "mini_batches": 2}
EPOCHS = {**ON, "learning_epochs": 2}
OFF = {"batch_size": 8, "learning_starts": 20, "random_timesteps": 10}
STOCHASTIC = {"policy": Gaussian, "value": Value}
Q = {"q_network": Actor, "target_q_network": Actor}

KINDS: dict[str, tuple[str, str, dict[str, type[Any]], dict[str, Any]]] = {
    "A2C": ("a2c.A2C", "Pendulum-v1", STOCHASTIC, ON),
    "AMP": ("amp.AMP", "Pendulum-v1", {**STOCHASTIC, "discriminator": Value}, {**EPOCHS, "amp_batch_size": 16}),
    "CEM": ("cem.CEM", "CartPole-v1", {"policy": Categorical}, {"rollouts": 64}),
    "DDPG": (
        "ddpg.DDPG",
        "Pendulum-v1",
        {"policy": Actor, "target_policy": Actor, "critic": Critic, "target_critic": Critic},
        OFF,
    ),
    "DDQN": ("ddqn.DDQN" if NEW else "dqn.DDQN", "CartPole-v1", Q, OFF),
    "DQN": ("dqn.DQN", "CartPole-v1", Q, OFF),
    "PPO": ("ppo.PPO", "Pendulum-v1", STOCHASTIC, EPOCHS),
    "Q-learning": ("q_learning.Q_LEARNING", "FrozenLake-v1", {"policy": Table}, {}),
    "SAC": ("sac.SAC", "Pendulum-v1", {"policy": Gaussian, **TWO}, OFF),
    "SARSA": ("sarsa.SARSA", "FrozenLake-v1", {"policy": Table}, {}),
    "TD3": ("td3.TD3", "Pendulum-v1", {"policy": Actor, "target_policy": Actor, **TWO}, OFF),
    "TRPO": ("trpo.TRPO", "Pendulum-v1", STOCHASTIC, EPOCHS),
}
"""By the agent's name in the table of metrics: its class, an environment, its models and some settings."""

SHORT = {"Pendulum-v1": 24, "CartPole-v1": None, "FrozenLake-v1": None}


def vector_environment(kind: str) -> Any:
    _, name, _, _ = KINDS[kind]
    options = {} if SHORT[name] is None else {"max_episode_steps": SHORT[name]}
    made: Any = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.make(name, **options)] * ENVS, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP
    )
    made.reset(seed=5)
    made.single_action_space.seed(6)
    is_discrete = isinstance(made.single_action_space, gymnasium.spaces.Discrete)
    made = Flat(made) if is_discrete and not NEW else made
    return Motions(made) if kind == "AMP" else made


def environment(kind: str) -> Any:
    return wrap_env(vector_environment(kind), verbose=False)


def features(kind: str, env: Any) -> dict[str, Any]:
    """Return the settings that switch on all that an agent tracks only when it is enabled, and all that has a state."""
    scaled = {"size": env.observation_space, "device": env.device}
    found: dict[str, Any] = {}
    if kind not in ("Q-learning", "SARSA"):
        found |= {
            f"{OBSERVED[:-1]}_preprocessor": RunningStandardScaler,
            f"{OBSERVED[:-1]}_preprocessor_kwargs": scaled,
        }
        scheduler = (torch.optim.lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.9})
        if kind in ("PPO", "A2C"):
            scheduler = (KLAdaptiveLR, {"kl_threshold": 0.008})
        found |= dict(zip(("learning_rate_scheduler", "learning_rate_scheduler_kwargs"), scheduler, strict=True))
    if kind in ("A2C", "PPO", "AMP", "TRPO"):
        found |= {"value_preprocessor": RunningStandardScaler, "value_preprocessor_kwargs": {"size": 1}}
        found |= {"time_limit_bootstrap": True}
    if kind in ("A2C", "PPO", "AMP"):
        found |= {"entropy_loss_scale": 0.01}
    if kind in ("DQN", "DDQN") and NEW:
        found |= {"exploration_scheduler": lambda timestep, timesteps: 0.05 + 0.95 * 0.99**timestep}
    if kind in ("DDPG", "TD3"):
        noise = {"theta": 0.15, "sigma": 0.2, "base_scale": 1.0}
        if NEW:
            found |= {"exploration_noise": OrnsteinUhlenbeckNoise, "exploration_noise_kwargs": noise}
        else:
            made = OrnsteinUhlenbeckNoise(**noise, device=env.device)
            found |= {"exploration": {"initial_scale": 1.0, "final_scale": 1e-3, "timesteps": None, "noise": made}}
    return found


def configuration(kind: str, env: Any, directory: Path, *, enabled: bool, experiment: dict[str, Any]) -> dict[str, Any]:
    where, _, _, settings = KINDS[kind]
    given = {**settings, **(features(kind, env) if enabled else {})}
    own = {"directory": str(directory), "experiment_name": "run", "write_interval": 16, "checkpoint_interval": 32}
    own |= experiment
    if NEW:
        return {**given, "experiment": own}
    package, name = where.split(".")
    default = getattr(importlib.import_module(f"skrl.agents.torch.{package}"), f"{name}_DEFAULT_CONFIG")
    return {**default, **given, "experiment": {**own, "wandb_kwargs": {}}}


def seed(number: int) -> None:
    torch.manual_seed(number)
    np.random.seed(number)  # noqa: NPY002  (what skrl draws from)
    random.seed(number)


def memory_of(size: int, num_envs: int = 1) -> Any:
    return RandomMemory(memory_size=size, num_envs=num_envs, device="cpu")


def agent_and_env(kind: str, directory: Path, *, enabled: bool = True, **experiment: Any) -> tuple[Any, Any]:
    seed(7)
    where, _, roles, settings = KINDS[kind]
    env = environment(kind)
    package, name = where.split(".")
    made = getattr(importlib.import_module(f"skrl.agents.torch.{package}"), name)
    models = {role: model(env) for role, model in roles.items()}
    on_policy = "rollouts" in settings
    tabular = kind in ("Q-learning", "SARSA")
    memory = None if tabular else memory_of(settings["rollouts"] if on_policy else 500, ENVS)
    more: dict[str, Any] = {}
    if kind == "AMP":
        more = {
            "amp_observation_space": env.observation_space,
            "motion_dataset": memory_of(64),
            "reply_buffer": memory_of(100),
            "collect_reference_motions": lambda number: torch.rand(number, 3),
        }
    cfg = configuration(kind, env, directory, enabled=enabled, experiment=experiment)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    return made(models=models, memory=memory, cfg=cfg, device="cpu", **spaces, **more), env


def trainer_of(agent: Any, env: Any, timesteps: int, kind: type[Any] = SequentialTrainer) -> Any:
    cfg = {"timesteps": timesteps, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    return kind(cfg=cfg, env=env, agents=agent)


def train(agent: Any, env: Any, start: int, timesteps: int, kind: type[Any] = SequentialTrainer) -> None:
    """Train as users do: skrl 1 is told where to begin, skrl 2 how many timesteps are left."""
    trainer = trainer_of(agent, env, timesteps - start if NEW else timesteps, kind)
    if not NEW:
        trainer.initial_timestep = start
    trainer.train()


def state(agent: Any) -> dict[str, Any]:
    """Return everything that training changes: parameters, optimizers, preprocessors, schedulers and memories."""
    return {
        name: host(each.state_dict())
        for name, each in {**agent.checkpoint_modules, **schedulers(agent)}.items()
        if hasattr(each, "state_dict")
    } | {name: host(each.tensors) for name, each in memories(agent).items()}


def models(agent: Any) -> dict[str, Any]:
    return {role: host(model.state_dict()) for role, model in agent.models.items()}


def rows(memory: Any) -> dict[str, Any]:
    written = memory.memory_size if memory.filled else memory.memory_index
    return {name: np.array(tensor[:written]) for name, tensor in sorted(memory.tensors.items())}


def schedulers(agent: Any) -> dict[str, Any]:
    return {
        name: each for name, each in vars(agent).items() if name.endswith("scheduler") and hasattr(each, "optimizer")
    }


def memories(agent: Any) -> dict[str, Any]:
    return {name: each for name, each in vars(agent).items() if hasattr(each, "tensors_view")}


def host(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return np.array(tree.detach())
    if isinstance(tree, dict):
        return {str(key): host(each) for key, each in tree.items()}
    if isinstance(tree, list | tuple):
        return [host(each) for each in tree]
    return tree if isinstance(tree, bool | int | float | str | type(None)) else repr(type(tree))
