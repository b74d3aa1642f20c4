"""A trial of Ray has the values and checkpoints of its experiment; Ray itself is in `tests/distributed`."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest

import keepfast
from keepfast.adapters.ray import RayTrial

DEFAULT = keepfast.ExperimentConfig().best_metric


@final
class Session:
    """What a trial asks of Ray: it stores a copy of each checkpoint that is reported, and gives the last one back."""

    def __init__(self, storage: Path) -> None:
        self.storage, self.reports, self.given = storage, list[dict[str, Any]](), None
        self.Checkpoint = SimpleNamespace(from_directory=Path)

    def report(self, metrics: dict[str, Any], checkpoint: Path | None) -> None:
        stored = None
        if checkpoint is not None:
            stored = self.storage / str(len(self.reports))
            shutil.copytree(checkpoint, stored)
            self.give(stored)
        self.reports.append({**metrics, "stored": stored})

    def give(self, stored: Path) -> None:
        @contextlib.contextmanager
        def as_directory() -> Iterator[str]:
            yield str(stored)

        self.given: Any = SimpleNamespace(as_directory=as_directory)

    def get_checkpoint(self) -> Any:
        return self.given


def train(session: Session, directory: Path, name: str = "run", rate: float = 1.0, **settings: Any) -> list[float]:
    """Train, and return the weight at the start and at the end."""
    cfg = {"directory": str(directory), "experiment_name": name, "writers": ["jsonl"], "best_metric": "Reward"}
    weight, until = np.zeros(1), settings.pop("until", 20)
    cfg |= {"write_interval": 4, "checkpoint_interval": 8, **settings}
    with RayTrial(keepfast.Experiment(cfg, timesteps=20), session) as trial:
        trial.experiment.register(policy={"weight": weight})
        start = trial.resume()
        begun = float(weight[0])
        for timestep in range(start, until):
            weight += rate
            trial.experiment.track_data("Reward", float(weight[0]))
            trial.step(timestep)
        if until < 20:
            raise KeyError("killed")
    return [start, begun, float(weight[0])]


def test_each_write_is_a_report_with_the_newest_checkpoint(tmp_path: Path) -> None:
    """Its files are a checkpoint by themselves; the end is reported with the last one, once."""
    session = Session(tmp_path / "ray")
    train(session, tmp_path)
    assert [report["timestep"] for report in session.reports] == [4, 8, 12, 16, 20]
    assert [report["Reward"] for report in session.reports] == [2.5, 6.5, 10.5, 14.5, 18.5]
    stored = [
        report["stored"] and sorted(path.stem for path in report["stored"].iterdir()) for report in session.reports
    ]
    assert stored == [None, ["agent_8"], None, ["agent_16"], ["agent_20"]]
    (last,) = session.reports[-1]["stored"].iterdir()
    assert keepfast.read_checkpoint(last)["policy"]["weight"] == 20


def test_an_end_between_writes_is_reported_too(tmp_path: Path) -> None:
    """With its values and its checkpoint."""
    session = Session(tmp_path / "ray")
    train(session, tmp_path, write_interval=6)
    assert [report["timestep"] for report in session.reports] == [6, 12, 18, 20]
    assert session.reports[-1]["Reward"] == 19.5
    assert [path.stem for path in session.reports[-1]["stored"].iterdir()] == ["agent_20"]


def test_a_trial_that_was_killed_goes_on_as_the_same_run(tmp_path: Path) -> None:
    """From what Ray was given last, though its directory has later ones; no value is written twice."""
    session = Session(tmp_path / "ray")
    with pytest.raises(KeyError):
        train(session, tmp_path, until=18)
    assert session.reports[-1]["timestep"] == 16
    assert train(session, tmp_path) == [16, 16.0, 20.0]
    whole = Session(tmp_path / "other")
    train(whole, tmp_path, "whole")
    values = [keepfast.read_metrics(tmp_path / name)["Reward"].values.tolist() for name in ("run", "whole")]
    assert values[0] == values[1]
    assert [report["Reward"] for report in session.reports][-1] == whole.reports[-1]["Reward"]


def test_another_trials_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    """As from another run, though this one has a checkpoint of the same name."""
    better, worse = Session(tmp_path / "better"), Session(tmp_path / "worse")
    for name, session, rate in (("one", better, 5.0), ("two", worse, 1.0)):
        with pytest.raises(KeyError):
            train(session, tmp_path, name, rate, until=9)
    worse.give(better.reports[-1]["stored"])
    assert train(worse, tmp_path, "two") == [8, 40.0, 52.0]
    assert keepfast.read_metrics(tmp_path / "two")["Reward"].steps.tolist() == [4, 8, 12, 16, 20]
    assert keepfast.read_metrics(tmp_path / "two")["Reward"].values.tolist()[:3] == [2.5, 6.5, 42.5]
    assert train(Session(tmp_path / "fresh"), tmp_path, "three") == [0, 0.0, 20.0]


def test_a_trial_that_writes_nothing_is_refused(tmp_path: Path) -> None:
    """There would be nothing to report."""
    with pytest.raises(keepfast.UsageError, match="`write_interval` is 0"):
        train(Session(tmp_path / "ray"), tmp_path, write_interval=0, keep_best=0, best_metric=DEFAULT)
