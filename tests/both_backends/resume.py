"""A run that was interrupted and resumed ends with the very same bits as one that never was."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any

import pytest

import keepfast
from tests.both_backends.framework import Framework
from tests.both_backends.interrupted import TIMESTEPS, Interrupted, assert_same_bits, rows


class Learner(abc.ABC):
    """A small supervised loop over `TIMESTEPS` steps."""

    modules: dict[str, Any]

    @abc.abstractmethod
    def step(self) -> Any:
        """Learn once and return the loss."""

    @abc.abstractmethod
    def result(self) -> dict[Any, Any]:
        """Return what the steps so far came to, flat, as arrays and numbers."""


class ResumeSuite(Framework):
    """Cuts off trainings at several timesteps, between checkpoints and at one, and resumes them."""

    @pytest.fixture
    @abc.abstractmethod
    def kind(self) -> type[Learner]:
        """Return what learns; several as parameters."""

    @pytest.fixture
    @abc.abstractmethod
    def stop_at(self) -> int:
        """Return where a training is cut off; several as parameters."""

    @pytest.fixture
    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return settings of the experiment; several as parameters."""

    @abc.abstractmethod
    def transition(self, loss: Any, timestep: int) -> tuple[Any, Any, Any]:
        """Return rewards of two environments, whether their episodes terminated, and whether they were truncated."""

    def train(self, kind: type[Learner], directory: Path, *, stop_at: int | None = None, **settings: Any) -> Learner:
        learner = kind()
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
                experiment.record_transition(*self.transition(loss, timestep))
                experiment.track_data("Loss / Loss", loss)
                experiment.step(timestep)
                if timestep + 1 == stop_at:
                    raise Interrupted
        return learner

    def cut(self, kind: type[Learner], directory: Path, *stops: int, **settings: Any) -> Learner:
        """Train with an interruption at each of some timesteps, and to the end."""
        for stop_at in stops:
            with pytest.raises(Interrupted):
                self.train(kind, directory, stop_at=stop_at, **settings)
        return self.train(kind, directory, **settings)

    def test_a_resumed_run_is_bit_identical(
        self, kind: type[Learner], stop_at: int, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        """Parameters, optimizer states, keys and every tracked value equal those of an uninterrupted run."""
        whole = self.train(kind, tmp_path / "whole", **settings)
        resumed = self.cut(kind, tmp_path / "cut", stop_at, **settings)
        assert_same_bits(resumed.result(), whole.result())
        assert rows(tmp_path / "cut") == rows(tmp_path / "whole")

    def test_the_best_score_survives_a_resume(self, kind: type[Learner], tmp_path: Path) -> None:
        """The best checkpoint after a resume is the one an uninterrupted run has, not the best since the resume."""
        self.train(kind, tmp_path / "whole")
        self.cut(kind, tmp_path / "cut", 23)
        best = Path("run", "checkpoints", f"best_agent{self.extension}")
        assert_same_bits(self.arrays(tmp_path / "cut" / best), self.arrays(tmp_path / "whole" / best))

    def test_two_resumes_in_a_row_are_as_exact_as_one(self, kind: type[Learner], tmp_path: Path) -> None:
        """A run cut twice ends like one that never was."""
        whole = self.train(kind, tmp_path / "whole")
        resumed = self.cut(kind, tmp_path / "cut", 15, 44)
        assert_same_bits(resumed.result(), whole.result())
        assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
