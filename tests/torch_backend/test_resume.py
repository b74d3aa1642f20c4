"""A torch run that was interrupted and resumed ends with the very same bits as one that never was."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402
from keepfast.tree import flatten  # noqa: E402
from tests.both_backends.interrupted import TIMESTEPS  # noqa: E402
from tests.both_backends.resume import Learner, ResumeSuite  # noqa: E402
from tests.torch_backend.framework import Torch  # noqa: E402


class SupervisedLearner(Learner):
    """A small supervised loop that draws from every global generator."""

    def __init__(self, seed: int = 0) -> None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (programs of the field draw from it)
        torch.manual_seed(seed)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)
        )
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=TIMESTEPS)
        self.modules = {"net": self.net, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def step(self) -> float:
        noise = np.random.rand(8, 4).astype(np.float32)  # noqa: NPY002  (as above)
        inputs = torch.randn(8, 4) + random.random() + torch.from_numpy(noise)
        loss = self.net(inputs).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.item()

    def result(self) -> dict[Any, Any]:
        state = {name: module.state_dict() for name, module in self.modules.items()}
        return flatten(state)


class TestResume(Torch, ResumeSuite):
    @pytest.fixture
    def kind(self) -> type[Learner]:
        return SupervisedLearner

    @pytest.fixture(params=[10, 23, 37, 59])
    def stop_at(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    @pytest.fixture(params=[{}, {"store_separately": True}, {"checkpoint_format": "safetensors"}], ids=str)
    def settings(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return dict(request.param)

    def transition(self, loss: Any, timestep: int) -> tuple[Any, Any, Any]:
        ended = torch.tensor([timestep % 4 == 0, timestep % 9 == 0])
        return torch.tensor([loss, 1.0]), ended, torch.zeros(2, dtype=torch.bool)


def test_a_loop_in_strides_keeps_the_memory_at_its_own_interval(tmp_path: Path) -> None:
    """Checkpoints at the steps that pass multiples of 10; those that pass one of 20, or are asked for, hold it."""
    memory = keepfast_torch.RandomMemory(memory_size=4, num_envs=1)
    memory.create_tensor("states", 1)
    memory.add_samples(states=torch.ones(1, 1))
    intervals = {"write_interval": 0, "checkpoint_interval": 10, "memory_checkpoint_interval": 20}
    with keepfast.Experiment({"directory": str(tmp_path), "experiment_name": "run", **intervals}) as experiment:
        experiment.register(net=torch.nn.Linear(1, 1), memory=memory)
        for timestep in range(0, 44, 4):
            experiment.step(timestep)
        experiment.write_checkpoint(43)
    found = {
        int(path.stem.partition("_")[2]): "memory" in torch.load(path, weights_only=True)
        for path in (tmp_path / "run" / "checkpoints").glob("agent_*.pt")
    }
    assert found == {13: False, 21: True, 33: False, 41: True, 43: True}


@pytest.mark.parametrize(
    ("interval", "holding"), [("auto", [10, 20, 30, 40, 50, 60]), (25, [30, 50]), (30, [30, 60]), (0, [])]
)
def test_a_memory_interval_need_not_be_a_multiple(tmp_path: Path, interval: Any, holding: list[int]) -> None:
    """The first checkpoint that reaches or passes a multiple of it holds the memory."""
    memory = keepfast_torch.RandomMemory(memory_size=4, num_envs=1)
    memory.create_tensor("states", 1)
    memory.add_samples(states=torch.ones(1, 1))
    intervals = {"write_interval": 0, "checkpoint_interval": 10, "memory_checkpoint_interval": interval}
    with keepfast.Experiment({"directory": str(tmp_path), "experiment_name": "run", **intervals}) as experiment:
        experiment.register(net=torch.nn.Linear(1, 1), memory=memory)
        for timestep in range(60):
            experiment.step(timestep)
    stored = (tmp_path / "run" / "checkpoints").glob("agent_*.pt")
    whole = [path for path in stored if "memory" in torch.load(path, weights_only=True)]
    assert sorted(int(path.stem.partition("_")[2]) for path in whole) == holding
