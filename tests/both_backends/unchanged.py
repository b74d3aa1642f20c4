"""Modules that did not change since a checkpoint before, in files of their own, in a training of each framework."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.checkpoints.verification import verify
from tests.both_backends.framework import Framework

LAST, INTERVAL, UPDATES = 12, 2, 6
"""The target is made of the head's number at every so many timesteps."""


class UnchangedSuite(Framework):
    """A frozen trunk, a head that is trained, the smallest of them, and a target that is made of the head's number."""

    @abc.abstractmethod
    def make(self) -> dict[str, Any]:
        """Return the modules `trunk`, `head` and `target`."""

    @abc.abstractmethod
    def train(self, number: float) -> None:
        """Make a number of all that the head has."""

    @abc.abstractmethod
    def update(self) -> None:
        """Make the head's number of all that the target has."""

    @abc.abstractmethod
    def numbers(self) -> tuple[float, float, float]:
        """Return a number of the trunk, of the head and of the target."""

    def experiment(self, directory: Path, **settings: Any) -> keepfast.Experiment:
        """Return an experiment of fresh modules."""
        cfg = {"directory": str(directory), "experiment_name": "run", "writers": [], "store_separately": True}
        cfg |= {"checkpoint_interval": INTERVAL, "write_interval": 1, "best_metric": "score", **settings}
        experiment = keepfast.Experiment(cfg, timesteps=LAST)
        experiment.register(**self.make())
        return experiment

    def run(self, directory: Path, **settings: Any) -> Path:
        """Train, and return where the checkpoints are."""
        experiment = self.experiment(directory, **settings)
        for timestep in range(experiment.resume(), LAST):
            self.train(float(timestep + 1))
            if (timestep + 1) % UPDATES == 0:
                self.update()
            experiment.track_data("score", -abs(timestep - 7.0))
            experiment.step(timestep)
        experiment.close()
        return directory / "run" / "checkpoints"

    def at(self, timestep: int) -> tuple[float, float, float]:
        """Return the numbers of a timestep."""
        return 0.5, float(timestep), float(timestep // UPDATES * UPDATES)

    @pytest.mark.parametrize("behind", [False, True], ids=["in line", "behind training"])
    def test_what_did_not_change_is_one_file_under_several_names(self, tmp_path: Path, behind: bool) -> None:
        """The trunk is written once, the target at each update, the head at each checkpoint."""
        found = self.run(tmp_path, async_checkpoints=behind)
        times = range(INTERVAL, LAST + 1, INTERVAL)
        files = {
            name: [(found / f"{name}_{timestep}{self.extension}").stat().st_ino for timestep in times]
            for name in ("trunk", "target", "head")
        }
        assert len(set(files["trunk"])) == 1
        assert [len(set(files["target"][:2])), len(set(files["target"][2:5])), len(set(files["target"]))] == [1, 1, 3]
        assert len(set(files["head"])) == len(times)
        assert [verdict.problem for verdict in verify(found) if verdict.problem] == []

    def test_each_checkpoint_resumes_as_it_was(self, tmp_path: Path) -> None:
        """Also the best, and what retention left of a run that was resumed in between."""
        found = self.run(tmp_path, keep_last=2, keep_every=UPDATES)
        assert (found / f"trunk_{LAST}{self.extension}").stat().st_nlink > 1
        kept = set(found.glob(f"head_*{self.extension}"))
        assert {path.name for path in kept} == {f"head_{at}{self.extension}" for at in (6, 10, 12)}
        for path in kept:
            timestep = int(path.stem.rpartition("_")[2])
            self.assert_resumes(tmp_path / path.stem, path, timestep)
        self.assert_resumes(tmp_path / "best", found / f"best_head{self.extension}", 8)

    def assert_resumes(self, directory: Path, path: Path, timestep: int) -> None:
        """Resume another run from a file, and compare what came of it with a timestep."""
        experiment = self.experiment(directory)
        assert experiment.resume(path) == timestep
        assert self.numbers() == self.at(timestep)
        experiment.close()

    def test_a_run_that_goes_on_shares_again(self, tmp_path: Path) -> None:
        """From its second checkpoint on."""
        experiment = self.experiment(tmp_path)
        for timestep in range(INTERVAL):
            self.train(float(timestep + 1))
            experiment.step(timestep)
        experiment.close()
        found = self.run(tmp_path)
        counts = [(found / f"trunk_{at}{self.extension}").stat().st_nlink for at in (2, 4, 6)]
        assert counts[0] == 1
        assert counts[1] > 3
        assert self.numbers() == self.at(LAST)
