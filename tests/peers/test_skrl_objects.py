"""Objects of skrl itself: its PPO trains with our memory, and all that it keeps comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skrl")
gymnasium = pytest.importorskip("gymnasium")

from skrl.agents.torch.ppo import PPO  # noqa: E402
from skrl.envs.wrappers.torch import wrap_env  # noqa: E402
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model  # noqa: E402
from skrl.resources.preprocessors.torch import RunningStandardScaler  # noqa: E402
from skrl.resources.schedulers.torch import KLAdaptiveLR  # noqa: E402
from skrl.trainers.torch import SequentialTrainer  # noqa: E402

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402

nn = torch.nn


class Policy(CategoricalMixin, Model):  # type: ignore[misc]
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.net = nn.Sequential(nn.Linear(self.num_observations, 8), nn.Tanh(), nn.Linear(8, self.num_actions))

    def compute(self, inputs: dict[str, Any], role: str = "") -> Any:
        return self.net(inputs["observations"]), {}


class Value(DeterministicMixin, Model):  # type: ignore[misc]
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = nn.Sequential(nn.Linear(self.num_observations, 8), nn.Tanh(), nn.Linear(8, 1))

    def compute(self, inputs: dict[str, Any], role: str = "") -> Any:
        return self.net(inputs["observations"]), {}


def agent_and_env(seed: int, directory: Path) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    env = wrap_env(gymnasium.make_vec("CartPole-v1", num_envs=2), verbose=False)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    config = {
        "rollouts": 8,
        "learning_epochs": 1,
        "mini_batches": 2,
        "learning_rate_scheduler": KLAdaptiveLR,
        "observation_preprocessor": RunningStandardScaler,
        "observation_preprocessor_kwargs": {"size": env.observation_space, "device": "cpu"},
        "value_preprocessor": RunningStandardScaler,
        "value_preprocessor_kwargs": {"size": 1, "device": "cpu"},
        "experiment": {"directory": str(directory), "write_interval": 0, "checkpoint_interval": 0},
    }
    models = {"policy": Policy(**spaces), "value": Value(**spaces)}
    memory = keepfast_torch.RandomMemory(8, env.num_envs, device="cpu")
    return PPO(models=models, memory=memory, cfg=config, **spaces), env


@pytest.fixture
def trained(tmp_path: Path) -> Any:
    agent, env = agent_and_env(1, tmp_path / "first")
    trainer = {"timesteps": 24, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    SequentialTrainer(cfg=trainer, env=env, agents=agent).train()
    return agent


def states(agent: Any) -> dict[str, Any]:
    return {name: module.state_dict() for name, module in agent.checkpoint_modules.items()}


def test_its_ppo_trains_with_our_memory(trained: Any) -> None:
    """Discrete actions go into the tensor of floats that it makes for them, since their space tells that they fit."""
    memory = trained.memory
    assert memory.filled
    assert memory.get_tensor_by_name("actions").dtype == torch.float32
    assert set(memory.get_tensor_by_name("actions").unique().tolist()) <= {0.0, 1.0}
    assert not memory.get_tensor_by_name("advantages").isnan().any()


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
def test_all_that_it_keeps_comes_back(trained: Any, extension: str, tmp_path: Path) -> None:
    """Networks, the optimizer and the preprocessors of its checkpoint modules, and its scheduler beside them."""
    other, _ = agent_and_env(2, tmp_path / "second")
    path = keepfast.Agent(trained.checkpoint_modules).save(tmp_path / f"agent{extension}")
    assert keepfast.Agent(other.checkpoint_modules).load(path)
    assert {"policy", "value", "optimizer", "observation_preprocessor", "value_preprocessor"} <= set(states(other))
    assert repr(states(other)) == repr(states(trained))
    scheduler = keepfast.save(trained.scheduler, tmp_path / f"scheduler{extension}")
    assert keepfast.load(other.scheduler, scheduler)
    assert other.scheduler.state_dict() == trained.scheduler.state_dict()


def test_its_own_checkpoint_is_loaded(trained: Any, tmp_path: Path) -> None:
    """What its `save` wrote goes into modules of another agent, and what we save goes into its `load`."""
    other, _ = agent_and_env(2, tmp_path / "second")
    trained.save(str(tmp_path / "its.pt"))
    keepfast.Agent(other.checkpoint_modules).load(tmp_path / "its.pt")
    assert repr(states(other)) == repr(states(trained))
    third, _ = agent_and_env(3, tmp_path / "third")
    third.load(str(keepfast.Agent(trained.checkpoint_modules).save(tmp_path / "ours.pt")))
    assert repr(states(third)) == repr(states(trained))


def test_its_memory_is_read(trained: Any, tmp_path: Path) -> None:
    """A memory that it exported as .pt is taken by ours."""
    from skrl.memories.torch import RandomMemory

    memory = RandomMemory(memory_size=3, num_envs=2, device="cpu", export=True, export_directory=str(tmp_path))
    memory.create_tensor(name="observations", size=2, dtype=torch.float32)
    for row in range(3):
        memory.add_samples(observations=torch.full((2, 2), float(row)))
    ours = keepfast_torch.RandomMemory(3, 2, device="cpu")
    assert ours.load(next(tmp_path.rglob("*.pt")))
    assert ours.get_tensor_by_name("observations")[:, 0, 0].tolist() == [0.0, 1.0, 2.0]
