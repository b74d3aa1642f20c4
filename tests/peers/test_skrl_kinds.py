"""Agents of skrl of every kind, of both its lines, run in its own trainers over `keepfast.Agent`, on PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast_torch import RandomMemory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import gymnasium
    import skrl
    import torch
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model
    from skrl.trainers.torch import SequentialTrainer

NEW = skrl.__version__ >= "2"
TIMESTEPS = 32

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::keepfast.KeepfastWarning"),
]


class Net:
    """What all networks here have; it comes before skrl's own classes, which know nothing of it."""

    outputs = 1

    def __init__(self, env: Any) -> None:
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
        Model.__init__(self, **spaces)
        for mixin in (CategoricalMixin, DeterministicMixin, GaussianMixin):
            if isinstance(self, mixin):
                mixin.__init__(self)
        self.net = torch.nn.LazyLinear(self.outputs or self.num_actions)
        self.log_std = torch.nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs: Any, role: str) -> Any:
        given = [inputs["observations" if NEW else "states"]]
        if self.takes_actions:
            given.append(inputs["taken_actions"])
        made = self.net(torch.cat(given, dim=-1))
        if not isinstance(self, GaussianMixin):
            return made, {}
        return (made, {"log_std": self.log_std}) if NEW else (made, self.log_std, {})

    takes_actions = False


class Gaussian(Net, GaussianMixin, Model):
    outputs = 0


class Actor(Net, DeterministicMixin, Model):
    outputs = 0


class Categorical(Net, CategoricalMixin, Model):
    outputs = 0


class Value(Net, DeterministicMixin, Model):
    outputs = 1


class Critic(Value):
    takes_actions = True


class Line(gymnasium.Env[Any, Any]):
    """A walk of eight steps."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,))

    def __init__(self, action_space: gymnasium.Space[Any]) -> None:
        self.action_space = action_space
        self.at = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = np.zeros(2, np.float32)
        return self.at, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at = self.at + np.array([1, np.asarray(action).item() / 9], np.float32)
        return self.at, float(self.at[1]), False, bool(self.at[0] >= 8), {}


CONTINUOUS, DISCRETE = gymnasium.spaces.Box(-1, 1, (1,)), gymnasium.spaces.Discrete(2)

TWO = {f"{target}critic_{number}": Critic for target in ("", "target_") for number in (1, 2)}
OFF = {"batch_size": 4}
ON = {"rollouts": 8, "mini_batches": 2}

KINDS: dict[str, tuple[gymnasium.Space[Any], dict[str, type[Any]], dict[str, Any]]] = {
    "a2c.A2C": (CONTINUOUS, {"policy": Gaussian, "value": Value}, ON),
    "ppo.PPO": (CONTINUOUS, {"policy": Gaussian, "value": Value}, {**ON, "learning_epochs": 2}),
    "rpo.RPO": (CONTINUOUS, {"policy": Gaussian, "value": Value}, {**ON, "learning_epochs": 2}),
    "trpo.TRPO": (CONTINUOUS, {"policy": Gaussian, "value": Value}, {**ON, "learning_epochs": 2}),
    "cem.CEM": (DISCRETE, {"policy": Categorical}, {"rollouts": 8}),
    "ddpg.DDPG": (
        CONTINUOUS,
        {"policy": Actor, "target_policy": Actor, "critic": Critic, "target_critic": Critic},
        OFF,
    ),
    "td3.TD3": (CONTINUOUS, {"policy": Actor, "target_policy": Actor, **TWO}, OFF),
    "sac.SAC": (CONTINUOUS, {"policy": Gaussian, **TWO}, OFF),
    "dqn.DQN": (DISCRETE, {"q_network": Actor, "target_q_network": Actor}, OFF),
    "ddqn.DDQN" if NEW else "dqn.DDQN": (DISCRETE, {"q_network": Actor, "target_q_network": Actor}, OFF),
}


def rebased(kind: str, monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """Return a class of agents of skrl over `keepfast.Agent`, its module imported anew."""
    package, name = kind.split(".")
    spec = importlib.util.find_spec(f"skrl.agents.torch.{package}.{name.lower()}")  # imports the package over skrl's
    monkeypatch.setattr("skrl.agents.torch.Agent", keepfast.Agent)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: type[Any] = getattr(module, name)
    assert issubclass(made, keepfast.Agent)
    return made


def configuration(kind: str, settings: dict[str, Any], directory: Path) -> dict[str, Any]:
    experiment = {
        "directory": str(directory),
        "experiment_name": "run",
        "write_interval": 16,
        "checkpoint_interval": 16,
    }
    if NEW:
        return {**settings, "experiment": experiment}
    package, name = kind.split(".")
    default = getattr(importlib.import_module(f"skrl.agents.torch.{package}"), f"{name}_DEFAULT_CONFIG")
    return {**default, **settings, "experiment": {**experiment, "wandb_kwargs": {}}}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_agent_runs_over_ours(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains, is checkpointed and tracked, and another one loads and resumes what it stored."""
    space, roles, settings = KINDS[kind]
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    env = wrap_env(gymnasium.vector.SyncVectorEnv([lambda: Line(space)] * 2, autoreset_mode=mode), verbose=False)
    made = rebased(kind, monkeypatch)

    def agent(directory: Path) -> Any:
        models = {role: model(env) for role, model in roles.items()}
        for role, model in models.items():
            given = {"observations" if NEW else "states": torch.zeros(1, model.num_observations)}
            model.compute({**given, "taken_actions": torch.zeros(1, model.num_actions)}, role)
        memory = RandomMemory(memory_size=settings.get("rollouts", 64), num_envs=2, device=env.device)
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
        cfg = configuration(kind, settings, directory)
        return made(models=models, memory=memory, cfg=cfg, device=env.device, **spaces)

    def values(of: Any) -> dict[str, Any]:
        states = {role: model.state_dict() for role, model in of.models.items()}
        return {f"{role}.{key}": each.tolist() for role, state in states.items() for key, each in state.items()}

    first = agent(tmp_path)
    before = values(first)
    cfg = {"timesteps": TIMESTEPS, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    SequentialTrainer(cfg=cfg, env=env, agents=first).train()
    first.close()
    assert values(first) != before
    checkpoint = tmp_path / "run" / "checkpoints" / f"agent_{TIMESTEPS}.pt"
    tags = keepfast.read_metrics(tmp_path / "run")
    assert "Reward / Instantaneous reward (mean)" in tags
    assert any(tag.startswith("Loss / ") or kind == "cem.CEM" for tag in tags)
    stored = {role for role in roles if role in torch.load(checkpoint, weights_only=True)}
    assert stored == set(roles)
    for load in ("load", "resume"):
        other = agent(tmp_path / load)
        getattr(other, load)(checkpoint)
        assert values(other) == values(first)
        other.close()
