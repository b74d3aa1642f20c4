"""A training whose whole state is known at each timestep, to be recorded, lost and resumed."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np

import keepfast
from keepfast.checkpoints.verification import Verdict, verify
from tests.powerloss.recorder import Recorder

TIMESTEPS, WRITES, UPDATES = 24, 2, 8
ROWS = 10
"""How many samples a memory holds."""


def _is_good(verdict: Verdict) -> bool:
    """Say whether a file is good, or a part of one that retention was removing."""
    return verdict.problem is None or "belongs with files of" in verdict.problem


class Training:
    """A training on NumPy's arrays, whose numbers are that of the completed timesteps.

    Args:
        directory: where its run lies.
        recorder: who is told what is durable, where anybody is.
        settings: of the experiment.
    """

    def __init__(self, directory: Path, recorder: Recorder | None = None, **settings: Any) -> None:
        cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl", "csv"], **settings}
        self.path = directory / "run"
        self.experiment = keepfast.Experiment({**cfg, "write_interval": WRITES}, timesteps=TIMESTEPS)
        self.memory: Any = None
        self.modules = self.make()
        self.experiment.register(**self.modules)
        if recorder is not None:
            self.experiment.when_durable(lambda durable: recorder.tell((durable.is_best, durable.timestep)))

    def make(self) -> dict[str, Any]:
        """Return what is registered."""
        self.state = SimpleNamespace(first=np.zeros(3), second=np.zeros(2000))
        return {name: keepfast.attribute(self.state, name) for name in ("first", "second")}

    def fill(self, number: int) -> None:
        """Make a number of every number of the state."""
        self.state.first = np.full(3, float(number))
        self.state.second = np.full(2000, float(number))

    def numbers(self) -> list[Any]:
        """Return the arrays of the state."""
        return [self.state.first, self.state.second]

    def sample(self, number: int) -> Any:
        """Return a sample for the memory."""
        return np.full((1, 1), float(number), np.float32)

    def run(self, first: int, last: int) -> None:
        """Take the timesteps from one on, up to and without another."""
        for timestep in range(first, last):
            self.fill(timestep + 1)
            if self.memory is not None:
                self.memory.add_samples(number=self.sample(timestep + 1))
            self.experiment.track_data("Reward / Total reward (mean)", float(timestep))
            self.experiment.step(timestep)

    def assert_at(self, timestep: int, *, with_memory: bool) -> None:
        """Compare the state with what it was at a timestep."""
        assert {float(number) for array in self.numbers() for number in np.asarray(array).flat} == {float(timestep)}
        if self.memory is not None and with_memory:
            held = np.asarray(self.memory.get_tensor_by_name("number")).reshape(-1)
            rows = range(max(timestep - ROWS, 0) + 1, timestep + 1)
            assert sorted(held[: len(self.memory)].tolist()) == [float(row) for row in rows]

    @classmethod
    def assert_exact(cls, directory: Path, told: list[Any], **settings: Any) -> int:
        """Resume after a loss what was told to be durable, or newer; end as a run that had none.

        Returns:
            The timestep that it went on from.
        """
        durable = max((timestep for is_best, timestep in told if not is_best), default=0)
        best = max((timestep for is_best, timestep in told if is_best), default=0)
        training = cls(directory, **settings)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            start = training.experiment.resume()
        assert start >= durable
        lacks_memory = any("does not hold the memory" in str(each.message) for each in warned)
        assert not (lacks_memory and durable)  # the best, which has none, may be there before anything else
        training.assert_at(start, with_memory=not lacks_memory)
        if best:
            kept = keepfast.read_checkpoint(min((training.path / "checkpoints").glob("best_*")))
            assert kept.metadata["timestep"] >= best
        training.run(start, TIMESTEPS)
        training.experiment.close()
        assert [str(verdict.problem) for verdict in verify(training.path) if not _is_good(verdict)] == []
        for name in ("metrics.jsonl", "metrics.csv"):
            series = keepfast.read_metrics(training.path / name)["Reward / Total reward (mean)"]
            assert series.steps.tolist() == list(range(WRITES, TIMESTEPS + 1, WRITES)), name
        return start


@final
class PartlyFrozen(Training):
    """One that does not change most of its numbers, and others but now and then."""

    def make(self) -> dict[str, Any]:
        made = super().make()
        self.state.frozen, self.state.target = np.full(3000, 0.5), np.zeros(1000)
        return {**made, **{name: keepfast.attribute(self.state, name) for name in ("frozen", "target")}}

    def fill(self, number: int) -> None:
        super().fill(number)
        self.state.target = np.full(1000, float(number // UPDATES))

    def assert_at(self, timestep: int, *, with_memory: bool) -> None:
        super().assert_at(timestep, with_memory=with_memory)
        assert set(self.state.frozen.tolist()) == {0.5}
        assert set(self.state.target.tolist()) == {float(timestep // UPDATES)}
