"""Where a run begins and ends: among the files of another, after its last write, in a forked child, by a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.runs.processes import preemption

Net = Any


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], **settings}


def rows(directory: Path) -> dict[int, dict[str, float]]:
    lines = (directory / "run" / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row["scalars"] for row in map(json.loads, lines)}


def checkpoint_names(directory: Path) -> set[str]:
    return {path.name for path in (directory / "run" / "checkpoints").iterdir()}


def train(experiment: keepfast.Experiment, steps: Iterable[int]) -> None:
    for timestep in steps:
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)


def finished_run(net: Net, directory: Path, **settings: Any) -> keepfast.Experiment:
    with keepfast.Experiment(cfg_in(directory, **settings), timesteps=10) as experiment:
        experiment.register(policy=net)
        train(experiment, range(10))
    return experiment


def test_what_is_tracked_after_the_last_step_outlives_an_error(net: Callable[..., Net], tmp_path: Path) -> None:
    """No resume comes back to it, though a checkpoint holds the last timestep."""
    experiment = keepfast.Experiment(cfg_in(tmp_path, write_interval=5, checkpoint_interval=5), timesteps=10)
    experiment.register(policy=net())
    train(experiment, range(10))
    experiment.track_data("Evaluation / Return", 3.0)
    with pytest.raises(ZeroDivisionError), experiment:
        raise ZeroDivisionError
    assert keepfast.read_metrics(experiment.directory)["Evaluation / Return"].values.tolist() == [3.0]


def test_a_run_that_broke_before_its_first_checkpoint_starts_anew(net: Callable[..., Net], tmp_path: Path) -> None:
    """With nothing to resume, `resume` voids what was written beyond timestep 0, in every writer's file."""
    cfg = cfg_in(tmp_path, writers=["jsonl", "csv"], write_interval=10, checkpoint_interval=0)
    for stop in (50, 100):
        with keepfast.Experiment(cfg, timesteps=100) as experiment:
            experiment.register(policy=net())
            experiment.writer.add_scalar("notes", 1.0)
            train(experiment, range(experiment.resume(), stop))
    for file in ("metrics.jsonl", "metrics.csv"):
        assert keepfast.read_metrics(experiment.directory / file)["a"].steps.tolist() == list(range(10, 101, 10))
        assert 0 in keepfast.read_metrics(experiment.directory / file)["notes"].steps


def test_a_first_start_keeps_its_writers_through_resume(tmp_path: Path) -> None:
    """In a new directory there is nothing to void, so whoever wrote before `resume` has the same writers after it."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment:
        writer = experiment.writer
        assert experiment.resume() == 0
        assert experiment.writer is writer


def test_checkpoints_that_are_not_the_best_keep_their_metrics(net: Callable[..., Net], tmp_path: Path) -> None:
    """`resume("best")` in a directory without a best, but with checkpoints, voids nothing and tells of them."""
    finished_run(net(), tmp_path, keep_best=0)
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment:
        experiment.register(policy=net())
        assert experiment.resume("best") == 0
        with pytest.warns(keepfast.KeepfastWarning, match="holds the checkpoints and metrics of an earlier run"):
            experiment.step(0)
    assert sorted(rows(tmp_path)) == list(range(1, 11))


def test_a_second_run_among_the_metrics_of_another_is_told_once(tmp_path: Path) -> None:
    """Where nobody resumes, the warning names the directory and `resume`; after a resume there is none."""
    cfg = cfg_in(tmp_path, write_interval=10)
    with keepfast.Experiment(cfg, timesteps=20) as experiment:
        train(experiment, range(20))
    with keepfast.Experiment(cfg, timesteps=20) as experiment:
        with pytest.warns(
            keepfast.KeepfastWarning, match=r"run` holds the metrics of an earlier.*`resume\(\)`"
        ) as told:
            train(experiment, range(20))
        assert len(told) == 1
    with keepfast.Experiment(cfg, timesteps=20) as experiment:
        train(experiment, range(experiment.resume(), 20))
    assert list(rows(tmp_path)) == [10, 20]


@pytest.mark.parametrize("at", [20, 25])
def test_what_is_tracked_after_the_last_write_is_written_at_close(
    at: int, net: Callable[..., Net], tmp_path: Path
) -> None:
    """Also where the last step was written itself, as a final evaluation comes after it, or was checkpointed."""
    with keepfast.Experiment(cfg_in(tmp_path, write_interval=10, checkpoint_interval=at), timesteps=50) as experiment:
        experiment.register(policy=net())
        train(experiment, range(at))
        experiment.track_data("Eval / Return", 500.0)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["scalars"]["Eval / Return"]) == (at, 500.0)


def test_what_is_tracked_before_any_step_is_written_at_close(tmp_path: Path) -> None:
    """At step 0, and it is told, since a loop without `step` is a mistake more often than not."""
    with (
        pytest.warns(keepfast.KeepfastWarning, match="`step` was never called, so what was tracked is written at"),
        keepfast.Experiment(cfg_in(tmp_path), timesteps=50) as experiment,
    ):
        experiment.track_data("Eval / Return", 500.0)
    assert rows(tmp_path) == {0: {"Eval / Return": 500.0}}


def test_an_interval_that_an_error_cut_at_a_checkpoint_is_left_to_a_resume(
    net: Callable[..., Net], tmp_path: Path
) -> None:
    """Also where `close` is called by hand: the resumed run has the rows of one that was never cut."""
    cfg = cfg_in(tmp_path, write_interval=15, checkpoint_interval=20)
    experiment = keepfast.Experiment(cfg, timesteps=30)
    experiment.register(policy=net())

    def broken() -> None:
        try:
            train(experiment, range(20))
            raise RuntimeError("the environment broke")
        finally:
            experiment.close()

    with pytest.raises(RuntimeError, match="broke"):
        broken()
    assert keepfast.read_metrics(experiment.directory)["a"].steps.tolist() == [15]
    with keepfast.Experiment(cfg, timesteps=30) as experiment:
        experiment.register(policy=net())
        train(experiment, range(experiment.resume(), 30))
    series = keepfast.read_metrics(experiment.directory)["a"]
    assert (series.steps.tolist(), series.values.tolist()) == ([15, 30], [7.0, 22.0])


def test_an_interval_that_the_best_begins_is_left_to_a_resume(net: Callable[..., Net], tmp_path: Path) -> None:
    """A run that broke off right behind its best goes on from that, and writes each timestep once."""
    cfg = cfg_in(tmp_path, write_interval=1, checkpoint_interval=100, best_metric="a")
    experiment = keepfast.Experiment(cfg, timesteps=10)
    experiment.register(policy=net())
    train(experiment, range(3))
    experiment.track_data("a", -1.0)
    with pytest.raises(ZeroDivisionError), experiment:
        raise ZeroDivisionError
    with keepfast.Experiment(cfg, timesteps=5) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 3
        train(experiment, range(3, 5))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert rows(tmp_path)[4]["a"] == 3.0


@pytest.mark.parametrize("length", [30, None], ids=["complete", "of no known length"])
@pytest.mark.parametrize("intervals", [(8, 10), (10, 10), (7, 4), (8, 30)], ids=str)
@pytest.mark.filterwarnings("ignore:.*is complete:keepfast.KeepfastWarning")
def test_a_run_started_again_without_another_step_writes_nothing_again(
    net: Callable[..., Net], tmp_path: Path, length: int | None, intervals: tuple[int, int]
) -> None:
    """However often: each timestep has one value of a tag, and what is tracked behind the end stands beside them."""
    cfg = cfg_in(tmp_path, write_interval=intervals[0], checkpoint_interval=intervals[1])

    def start() -> keepfast.Experiment:
        return keepfast.Experiment(cfg, timesteps=length, modules={"policy": net(0)})

    with start() as run:
        train(run, range(30))
    for _ in range(3):
        with start() as run:
            assert run.resume() == 30
    written = keepfast.read_metrics(run.directory)["a"]
    assert written.steps.tolist() == sorted({*range(intervals[0], 31, intervals[0]), 30})
    with start() as run:
        run.resume()
        run.track_data("Evaluation / return", 5.0)
    assert keepfast.read_metrics(run.directory)["Evaluation / return"].values.tolist() == [5.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="ends a forked child without a word")
@pytest.mark.filterwarnings("ignore:.*is complete:keepfast.KeepfastWarning")
def test_a_complete_run_that_was_killed_before_its_close_has_its_last_row(
    net: Callable[..., Net], tmp_path: Path
) -> None:
    """Its last checkpoint is on disk no earlier than what was tracked until then."""
    cfg = cfg_in(tmp_path, write_interval=8, checkpoint_interval=10)
    child = os.fork()
    if child == 0:
        experiment = keepfast.Experiment(cfg, timesteps=30, modules={"policy": net(0)})
        train(experiment, range(30))
        experiment.wait()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with keepfast.Experiment(cfg, timesteps=30, modules={"policy": net(0)}) as experiment:
        assert experiment.resume() == 30
    assert list(rows(tmp_path)) == [8, 16, 24, 30]


def test_a_closed_experiment_takes_nothing(net: Callable[..., Net], tmp_path: Path) -> None:
    """What would be lost after close is an error, and nothing is written any more."""
    experiment = finished_run(net(), tmp_path)
    there = checkpoint_names(tmp_path)
    for call in (
        lambda: experiment.record_transition(np.ones(2), np.ones(2), np.ones(2)),
        lambda: experiment.track_data("a", 1.0),
        lambda: experiment.write_tracking_data(11),
        lambda: experiment.write_checkpoint(11),
        lambda: experiment.step(10),
        experiment.resume,
        experiment.__enter__,
    ):
        with pytest.raises(keepfast.UsageError, match="was closed"):
            call()
    experiment.close()
    experiment.wait()
    assert checkpoint_names(tmp_path) == there


FORKING = """
import os, sys, keepfast
cfg = {"directory": sys.argv[1], "experiment_name": "run", "writers": ["jsonl"], "write_interval": 10}
with keepfast.Experiment(cfg, timesteps=30) as experiment:
    for timestep in range(30):
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)
        if timestep == 14 and os.fork() == 0:
            sys.exit(0)  # leaves the with statement
        if timestep == 14:
            os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_nothing_at_its_end(tmp_path: Path) -> None:
    """A child that leaves the `with` statement leaves the parent's interval to the parent."""
    subprocess.run([sys.executable, "-c", FORKING, str(tmp_path)], check=True, timeout=60)
    steps = keepfast.read_metrics(tmp_path / "run")["a"].steps
    assert steps.tolist() == [10, 20, 30]


class LateWriter(keepfast.Writer):
    """Keeps values in memory until it is told to flush."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        self._path, self._waiting = context.directory / "late.txt", ""

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self._waiting += f"{step}\n"

    def flush(self) -> None:
        with self._path.open("a") as file:
            file.write(self._waiting)
        self._waiting = ""


@pytest.fixture
def _late_writer() -> Iterator[None]:
    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"late": LateWriter}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "late-writer")
    yield
    keepfast.plugins.registry().unregister(plugin)


@pytest.mark.usefixtures("_late_writer")
@pytest.mark.parametrize("behind", [True, False])
def test_metrics_are_on_disk_before_the_checkpoint_that_counts_on_them(
    behind: bool, net: Callable[..., Net], tmp_path: Path
) -> None:
    """Once a checkpoint is there, its writers have what was written until then, though nobody flushed them."""
    settings = {"writers": ["late"], "write_interval": 10, "checkpoint_interval": 20, "async_checkpoints": behind}
    with keepfast.Experiment(cfg_in(tmp_path, **settings), timesteps=100) as experiment:
        experiment.register(policy=net())
        train(experiment, range(25))
        deadline = time.monotonic() + 30
        while not (tmp_path / "run" / "checkpoints" / "agent_20.safetensors").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (tmp_path / "run" / "late.txt").read_text() == "10\n20\n"


@pytest.mark.parametrize(("timesteps", "interval", "expected"), [(1999, 1000, {1000, 1999}), (500, 1000, {500})])
def test_the_state_at_the_end_is_saved(
    net: Callable[..., Net], tmp_path: Path, timesteps: int, interval: int, expected: set[int]
) -> None:
    """A run that reaches its last timestep has a checkpoint of it, there as soon as `wait` returns."""
    settings = {"write_interval": 1000, "checkpoint_interval": interval}
    with keepfast.Experiment(cfg_in(tmp_path, **settings), timesteps=timesteps) as experiment:
        experiment.register(policy=net())
        train(experiment, range(timesteps))
        experiment.wait()
        names = checkpoint_names(tmp_path)
    assert names == {"index.json", *(f"agent_{step}.safetensors" for step in expected)} == checkpoint_names(tmp_path)


def test_a_run_that_is_closed_early_saves_where_it_stands(net: Callable[..., Net], tmp_path: Path) -> None:
    """Also without a length; a resume goes on from there, and each interval has one row."""
    settings = {"write_interval": 10, "checkpoint_interval": 100, "experiment_name": "run"}
    for stop, resumed in ((25, 0), (47, 25), (60, 47)):
        with keepfast.Experiment(cfg_in(tmp_path, **settings)) as experiment:
            experiment.register(policy=net())
            assert experiment.resume() == resumed
            train(experiment, range(resumed, stop))
    steps = keepfast.read_metrics(tmp_path / "run")["a"].steps.tolist()
    assert steps == [10, 20, 25, 30, 40, 47, 50, 60]
    assert {f"agent_{stop}.safetensors" for stop in (25, 47, 60)} < checkpoint_names(tmp_path)


def test_the_end_is_saved_by_the_agents_own_hook(net: Callable[..., Net], tmp_path: Path) -> None:
    """An agent that overrides `write_checkpoint` has its say at the end too, once."""
    asked = []

    class Noting(keepfast.Agent):
        def write_checkpoint(self, timestep: int | None = None, timesteps: int | None = None) -> None:
            asked.append(timestep)
            super().write_checkpoint(timestep, timesteps)

    agent = Noting({"policy": net()}, cfg=cfg_in(tmp_path, checkpoint_interval=10))
    agent.init(trainer_cfg={"timesteps": 25})
    for timestep in range(25):
        agent.post_interaction(timestep, 25)
    agent.close()
    assert asked == [10, 20, 25]


def test_no_end_is_saved_where_nothing_was_done_or_an_error_ended_it(net: Callable[..., Net], tmp_path: Path) -> None:
    """Half an update is no state to go on from, and a run that was only opened has none."""

    def break_off() -> None:
        with keepfast.Experiment(cfg_in(tmp_path, checkpoint_interval=10), timesteps=100) as experiment:
            experiment.register(policy=net())
            train(experiment, range(15))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with keepfast.Experiment(cfg_in(tmp_path, checkpoint_interval=10), timesteps=100) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 10
    assert checkpoint_names(tmp_path) == {"agent_10.safetensors", "index.json"}


INTERRUPTED = """
import os, signal, sys
import keepfast

cfg = {"directory": sys.argv[1], "experiment_name": "run", "writers": ["jsonl"], "checkpoint_interval": 0}
try:
    with keepfast.Experiment(cfg, timesteps=1000) as experiment:
        for timestep in range(1000):
            experiment.track_data("a", timestep)
            if timestep == 30:
                os.kill(os.getpid(), signal.SIGINT)
                update = "complete"
            experiment.step(timestep)
except KeyboardInterrupt:
    print(update, experiment.completed)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_completes_the_timestep() -> None:
    """It is raised where a state is whole, and says on standard error that pressing it again ends at once."""
    with tempfile.TemporaryDirectory() as directory:
        ended = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, directory], capture_output=True, text=True, timeout=60, check=True
        )
    assert ended.stdout == "complete 31\n"
    assert ended.stderr == "Ctrl-C: this timestep is completed and the run saved first; press it again to end at once\n"


def test_a_count_that_starts_over_is_told_once(tmp_path: Path) -> None:
    """With both numbers and the ways out; a count that wavers a little, as that of several actors does, is not."""
    with keepfast.Experiment(cfg_in(tmp_path, write_interval=10)) as experiment:
        train(experiment, [0, 1, 0, 1, 2, 1, 3, 2, *range(4, 100)])
        with pytest.warns(keepfast.KeepfastWarning, match="timestep 99 is followed by timestep 0: ") as told:
            train(experiment, [*range(100), *range(100)])
        assert len(told) == 1
        assert all(way in str(told[0].message) for way in ("Count on from 100", "`resume()`", "another experiment"))


def test_a_stop_within_compiled_code_is_raised_at_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program is at its end before it is raised by itself; no row of the broken interval is written."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 4}
    monkeypatch.setattr(preemption, "_LEAVING_SECONDS", 30.0)
    experiment = keepfast.Experiment({**cfg, "checkpoint_interval": 6})
    experiment.register(kept=keepfast.attribute(SimpleNamespace(value=1), "value"))
    for timestep in range(6):
        experiment.track_data("Loss / x", 1.0)
        experiment.step(timestep)
    with experiment.loop.call() as ends:
        raise KeyboardInterrupt
    assert ends()
    with pytest.raises(KeyboardInterrupt):
        experiment.close()
    assert keepfast.read_metrics(tmp_path / "run")["Loss / x"].steps.tolist() == [4]
