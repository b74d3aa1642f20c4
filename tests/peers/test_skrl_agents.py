"""Agents of skrl, of both its lines, run in its own trainers with `keepfast.Agent` in the place of its base class."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast_torch import RandomMemory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import gymnasium
    import skrl
    import torch
    from skrl.agents.torch.ppo import PPO
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
    from skrl.trainers.torch import SequentialTrainer

NEW = skrl.__version__ >= "2"
ROLLOUTS, TIMESTEPS = 16, 64

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error::keepfast.KeepfastWarning"),
]


class Policy(GaussianMixin, Model):
    """A policy as skrl's examples have it."""

    def __init__(self, env: Any) -> None:
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self)
        self.net = torch.nn.Linear(self.num_observations, self.num_actions)
        self.log_std = torch.nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs: Any, role: str) -> Any:
        mean = self.net(inputs["observations" if NEW else "states"])
        return (mean, {"log_std": self.log_std}) if NEW else (mean, self.log_std, {})


class Value(DeterministicMixin, Model):
    """A value as skrl's examples have it."""

    def __init__(self, env: Any) -> None:
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = torch.nn.Linear(self.num_observations, 1)

    def compute(self, inputs: Any, role: str) -> Any:
        return self.net(inputs["observations" if NEW else "states"]), {}


def configuration(directory: Path, name: str) -> dict[str, Any]:
    names = ("rollouts", "learning_epochs", "mini_batches")
    settings: dict[str, Any] = dict(zip(names, (ROLLOUTS, 2, 2), strict=True))
    experiment = {"directory": str(directory), "experiment_name": name, "write_interval": 16, "checkpoint_interval": 32}
    if NEW:
        return {**settings, "experiment": experiment}
    module = importlib.import_module("skrl.agents.torch.ppo")
    return {**module.PPO_DEFAULT_CONFIG, **settings, "experiment": {**experiment, "wandb_kwargs": {}}}


def agent_of(kind: type[Any], memory: Any, cfg: dict[str, Any], env: Any) -> Any:
    torch.manual_seed(7)
    models = {"policy": Policy(env), "value": Value(env)}
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    return kind(models=models, memory=memory, cfg=cfg, device=env.device, **spaces)


def trained(agent: Any, env: Any) -> Any:
    cfg = {"timesteps": TIMESTEPS, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    trainer = SequentialTrainer(cfg=cfg, env=env, agents=agent)
    torch.manual_seed(8)
    trainer.train()
    return trainer


@pytest.fixture
def env() -> Any:
    return wrap_env(gymnasium.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync"), verbose=False)


@pytest.fixture
def rebased(monkeypatch: pytest.MonkeyPatch) -> Callable[[], type[Any]]:
    """Return a maker of skrl's own PPO class over `keepfast.Agent`, its module imported anew."""

    def make() -> type[Any]:
        import skrl.agents.torch as package

        monkeypatch.setattr(package, "Agent", keepfast.Agent)
        name = "skrl.agents.torch.ppo.ppo"
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert issubclass(module.PPO, keepfast.Agent)
        return module.PPO

    return make


def test_the_agent_of_another_library_runs_over_ours(
    rebased: Callable[[], type[Any]], env: Any, tmp_path: Path
) -> None:
    """In its own trainer, with our memory and its own; it learns, is checkpointed, tracked, evaluated and loaded."""
    kind = rebased()
    memory = RandomMemory(memory_size=ROLLOUTS, num_envs=2, device=env.device)
    agent = agent_of(kind, memory, configuration(tmp_path, "ours"), env)
    before = agent.policy.net.weight.clone()
    trainer = trained(agent, env)
    assert not torch.equal(before, agent.policy.net.weight)
    agent.wait()
    checkpoints = agent.experiment_dir / "checkpoints"
    stored = {path.name: path.read_bytes() for path in checkpoints.glob("agent_*")}
    assert sorted(stored) == ["agent_32.pt", "agent_64.pt"]
    tags = keepfast.read_metrics(agent.experiment_dir)
    assert {"Loss / Policy loss", "Reward / Instantaneous reward (mean)"} <= set(tags)
    assert list(tags["Loss / Policy loss"].steps) == [16, 32, 48, 64]
    trainer.eval()
    agent.wait()
    assert stored.items() <= {path.name: path.read_bytes() for path in checkpoints.glob("agent_*")}.items()
    fresh = agent_of(kind, None, configuration(tmp_path, "fresh"), env)
    fresh.policy.train()
    fresh.load(checkpoints / "agent_64.pt")
    assert torch.equal(fresh.policy.net.weight, agent.policy.net.weight)
    assert not fresh.policy.training
    agent.close()


def test_its_own_agent_loads_what_ours_stored(rebased: Callable[[], type[Any]], env: Any, tmp_path: Path) -> None:
    """And ours loads what its own stored."""
    from skrl.memories.torch import RandomMemory as OwnMemory

    its_memory = OwnMemory(memory_size=ROLLOUTS, num_envs=2, device=env.device)
    own = agent_of(PPO, its_memory, configuration(tmp_path, "own"), env)
    trained(own, env)
    memory = RandomMemory(memory_size=ROLLOUTS, num_envs=2, device=env.device)
    ours = agent_of(rebased(), memory, configuration(tmp_path, "ours"), env)
    trained(ours, env)
    ours.wait()
    assert not torch.equal(own.policy.net.weight, ours.policy.net.weight)
    own.load(str(ours.experiment_dir / "checkpoints" / "agent_64.pt"))
    assert torch.equal(own.policy.net.weight, ours.policy.net.weight)
    other = agent_of(rebased(), None, configuration(tmp_path, "other"), env)
    stored = Path(own.experiment_dir) / "checkpoints" / "agent_32.pt"
    other.load(stored)
    expected = torch.load(stored, weights_only=True)["policy"]["net.weight"]
    assert torch.equal(other.policy.net.weight, expected)
    ours.close()
