"""What a run takes over from a checkpoint of its own, and what from another run's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast

Net = Any


class CountingWriter(keepfast.Writer):
    """Counts the steps written over all starts of a run, and notes how it began."""

    begun: list[tuple[int | None, Mapping[str, Any]]] = []  # noqa: RUF012  (what tests look at)
    counts: list[int] = []  # noqa: RUF012

    def __init__(self, context: keepfast.WriterContext) -> None:
        self.begun.append((context.resume_step, context.resume_state))
        self._count = 0

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self._count += 1
        self.counts.append(self._count)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._count = state["count"]


@pytest.fixture
def writer() -> Iterator[type[CountingWriter]]:
    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"counting": CountingWriter}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "counting-writer")
    CountingWriter.begun.clear()
    CountingWriter.counts.clear()
    yield CountingWriter
    keepfast.plugins.registry().unregister(plugin)


def start(net: Net, directory: Path, **settings: Any) -> keepfast.Experiment:
    own = {"directory": str(directory), "experiment_name": "run", "writers": ["counting"], "write_interval": 5}
    experiment = keepfast.Experiment({**own, "checkpoint_interval": 10, "best_metric": "Score", **settings})
    experiment.register(policy=net)
    return experiment


def train(experiment: keepfast.Experiment, begin: int, end: int, score: float) -> None:
    with experiment:
        for timestep in range(begin, end):
            experiment.track_data("Score", score)
            experiment.step(timestep)


def test_a_run_goes_on_with_its_own_writers_and_best(
    net: Callable[..., Net], writer: type[CountingWriter], tmp_path: Path
) -> None:
    """Each writer gets its state back, when it is made and before its first value; the best score stays."""
    train(start(net(), tmp_path), 0, 20, score=7.0)
    experiment = start(net(), tmp_path)
    assert experiment.resume() == 20
    assert experiment.best_score == 7.0
    train(experiment, 20, 30, score=1.0)
    assert writer.begun == [(None, {}), (20, {"count": 4})]
    assert writer.counts == [1, 2, 3, 4, 5, 6]
    assert experiment.best_score == 7.0


@pytest.mark.parametrize("which", ["run", "file"])
def test_another_runs_writers_and_best_are_its_own(
    net: Callable[..., Net], writer: type[CountingWriter], tmp_path: Path, which: str
) -> None:
    """Its modules, its timestep and what it tracked are taken over; its server ids and its best score are not."""
    train(start(net(seed=1), tmp_path / "other"), 0, 20, score=7.0)
    directory = tmp_path / "other" / "run"
    path = directory if which == "run" else directory / "checkpoints" / "agent_20.safetensors"
    module = net(seed=2)
    experiment = start(module, tmp_path)
    assert experiment.resume(path) == 20
    assert experiment.best_score is None
    train(experiment, 20, 30, score=1.0)
    assert writer.begun == [(None, {}), (20, {})]
    assert writer.counts == [1, 2, 3, 4, 1, 2]
    assert experiment.best_score == 1.0
    np.testing.assert_array_equal(module.arrays["head"]["weight"], net(seed=1).arrays["head"]["weight"])


def test_random_numbers_go_on_from_another_runs_checkpoint_too(net: Callable[..., Net], tmp_path: Path) -> None:
    """NumPy draws what it would have drawn next when the checkpoint was taken."""
    with start(net(), tmp_path / "other", writers=[]) as experiment:
        np.random.seed(5)  # noqa: NPY002  (the generator that everybody shares)
        experiment.write_checkpoint(1)
    expected = np.random.random(3)  # noqa: NPY002
    with start(net(), tmp_path, writers=[]) as experiment:
        assert experiment.resume(tmp_path / "other" / "run") == 1
        assert np.random.random(3).tolist() == expected.tolist()  # noqa: NPY002


class DrawingWriter(keepfast.Writer):
    """Draws a random number at its end, for a name perhaps."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        pass

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        pass

    def close(self) -> None:
        np.random.random(5)  # noqa: NPY002


def test_writers_that_end_at_a_resume_draw_no_number_of_the_run(net: Callable[..., Net], tmp_path: Path) -> None:
    """The generators are put back last, so that the run goes on with the numbers it would have had."""

    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"drawing": DrawingWriter}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "drawing-writer")
    with start(net(), tmp_path, writers=["drawing"], on_writer_error="raise") as experiment:
        experiment.writer.add_scalar("a", 1.0, global_step=1)
        np.random.seed(5)  # noqa: NPY002  (the generator that everybody shares)
        experiment.write_checkpoint(1)
        expected = np.random.random(3)  # noqa: NPY002
        assert experiment.resume() == 1
        assert np.random.random(3).tolist() == expected.tolist()  # noqa: NPY002
    keepfast.plugins.registry().unregister(plugin)


def test_what_a_file_tells_counts_more_than_its_name(net: Callable[..., Net], tmp_path: Path) -> None:
    """Whoever gives it another number does not make the run older."""
    train(start(net(), tmp_path / "other", writers=[]), 0, 20, score=7.0)
    path = tmp_path / "other" / "run" / "checkpoints" / "agent_20.safetensors"
    with start(net(), tmp_path, writers=[]) as experiment:
        assert experiment.resume(path.rename(path.with_name("agent_777.safetensors"))) == 20


def test_what_another_run_left_is_still_told_after_a_resume_from_elsewhere(
    net: Callable[..., Net], tmp_path: Path
) -> None:
    """A resume from elsewhere takes over nothing of what lies in the run's own directory."""
    train(start(net(), tmp_path, writers=["jsonl"]), 0, 20, score=1.0)
    train(start(net(), tmp_path / "other", writers=["jsonl"]), 0, 40, score=1.0)
    with start(net(), tmp_path, writers=["jsonl"]) as experiment:
        assert experiment.resume(tmp_path / "other" / "run") == 40
        with pytest.warns(keepfast.KeepfastWarning, match="holds the checkpoints and metrics of an earlier run"):
            experiment.step(40)


def test_asking_for_a_best_that_is_not_there_voids_nothing(net: Callable[..., Net], tmp_path: Path) -> None:
    """Also after a resume from the latest: only a directory without any checkpoint is begun anew."""
    train(start(net(), tmp_path, writers=["jsonl"], keep_best=0), 0, 20, score=1.0)
    with start(net(), tmp_path, writers=["jsonl"], keep_best=0) as experiment:
        assert experiment.resume() == 20
        assert experiment.resume("best") == 0
        experiment.writer.add_scalar("note", 1.0, global_step=20)
    assert keepfast.read_metrics(tmp_path / "run")["Score"].steps.tolist() == [5, 10, 15, 20]


def test_a_file_without_a_runs_state_gives_modules_and_timestep(net: Callable[..., Net], tmp_path: Path) -> None:
    """As one that `Agent.save` wrote, its name telling the timestep: what the run tracked itself is kept."""
    path = keepfast.Agent({"policy": net(seed=1)}).save(tmp_path / "agent_30.safetensors")
    with start(net(), tmp_path, writers=["jsonl"]) as experiment:
        experiment.track_data("Score", 3.0)
        assert experiment.resume(path) == 30
        experiment.write_tracking_data(31)
    assert keepfast.read_metrics(tmp_path / "run")["Score"].values.tolist() == [3.0]
