"""A torch run that was interrupted and resumed ends with the very same bits as one that never was."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402

TIMESTEPS = 60


class Interrupted(Exception):
    pass


class Learner:
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


def train(directory: Path, *, stop_at: int | None = None, **settings: Any) -> Learner:
    learner = Learner()
    cfg = {
        "directory": str(directory),
        "experiment_name": "run",
        "write_interval": 7,  # never at the same timestep as a checkpoint, so each holds an interval begun
        "checkpoint_interval": 10,
        "writers": ["jsonl"],
        "best_metric": "Loss / Loss",
        "best_mode": "min",
        "running_episodes": "continue",  # what ends an episode here is the timestep, which comes back
        **settings,
    }
    with keepfast.Experiment(cfg, timesteps=TIMESTEPS) as experiment:
        experiment.register(**learner.modules)
        for timestep in range(experiment.resume(), TIMESTEPS):
            loss = learner.step()
            ended = torch.tensor([timestep % 4 == 0, timestep % 9 == 0])
            experiment.record_transition(torch.tensor([loss, 1.0]), ended, torch.zeros(2, dtype=torch.bool))
            experiment.track_data("Loss / Loss", loss)
            experiment.step(timestep)
            if timestep + 1 == stop_at:
                raise Interrupted
    return learner


def rows(directory: Path) -> list[tuple[int, dict[str, float]]]:
    lines = (directory / "run" / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["scalars"]) for row in map(json.loads, lines) if "scalars" in row]


@pytest.mark.parametrize("settings", [{}, {"store_separately": True}, {"checkpoint_format": "safetensors"}], ids=str)
@pytest.mark.parametrize("stop_at", [10, 23, 37, 59])
def test_a_resumed_run_is_bit_identical(stop_at: int, settings: dict[str, Any], tmp_path: Path) -> None:
    """Parameters, optimizer state and every tracked value of a resumed run equal those of an uninterrupted one."""
    whole = train(tmp_path / "whole", **settings)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", stop_at=stop_at, **settings)
    resumed = train(tmp_path / "cut", **settings)

    for name, expected in whole.net.state_dict().items():
        assert torch.equal(resumed.net.state_dict()[name], expected), name
    for number, state in whole.optimizer.state_dict()["state"].items():
        for name, expected in state.items():
            assert torch.equal(resumed.optimizer.state_dict()["state"][number][name], expected), name
    assert resumed.scheduler.state_dict() == whole.scheduler.state_dict()
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_the_best_score_survives_a_resume(tmp_path: Path) -> None:
    """The best checkpoint after a resume is the one an uninterrupted run has, not the best since the resume."""
    train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", stop_at=23)
    train(tmp_path / "cut")
    bests = [
        torch.load(tmp_path / run / "run" / "checkpoints" / "best_agent.pt", weights_only=True)["net"]
        for run in ("whole", "cut")
    ]
    assert all(torch.equal(bests[0][name], bests[1][name]) for name in bests[0])


def test_two_resumes_in_a_row_are_as_exact_as_one(tmp_path: Path) -> None:
    """A run cut twice ends like one that never was."""
    whole = train(tmp_path / "whole")
    for stop_at in (15, 44):
        with pytest.raises(Interrupted):
            train(tmp_path / "cut", stop_at=stop_at)
    resumed = train(tmp_path / "cut")
    assert all(torch.equal(resumed.net.state_dict()[k], v) for k, v in whole.net.state_dict().items())
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


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
