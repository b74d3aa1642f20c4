"""A run's directory has one owner at a time."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.plugins.formats import read_checkpoint
from keepfast.runs.processes.ownership import LOCK

PREPARED = """
import os, sys, time, keepfast
cfg = {"directory": sys.argv[1], "experiment_name": "run", "writers": ["jsonl"], "write_interval": 5}
experiment = keepfast.Experiment(cfg, timesteps=10)
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    settings = {"writers": ["jsonl"], "write_interval": 5, **settings}
    return {"directory": str(directory), "experiment_name": "run", **settings}


def train(experiment: keepfast.Experiment) -> None:
    for timestep in range(10):
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)


@pytest.fixture
def started() -> Iterator[Callable[[str, Path], tuple[subprocess.Popen[str], str]]]:
    """Return a function that starts a program with an experiment, and says what it printed first."""
    processes: list[subprocess.Popen[str]] = []

    def start(program: str, directory: Path) -> tuple[subprocess.Popen[str], str]:
        whole = PREPARED + textwrap.dedent(program)
        command = [sys.executable, "-W", "ignore", "-c", whole, str(directory)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in processes:
        with process:
            process.kill()


def test_a_second_process_is_refused(tmp_path: Path, started: Any) -> None:
    """It is told the process, the host, the start and what to do, and harms nothing of the first's run."""
    process, _ = started("print('made', flush=True); sys.stdin.readline(); experiment.close()", tmp_path)
    config = (tmp_path / "run" / "config.json").read_bytes()
    start = json.loads((tmp_path / "run" / LOCK).read_text())["start"]
    told = f"in use by process {process.pid} on {socket.gethostname()}, since {start}.*another `experiment_name`"
    with pytest.raises(keepfast.DirectoryError, match=re.sub(r"([+])", r"\\\1", told)):
        keepfast.Experiment(cfg_in(tmp_path), timesteps=99)
    assert (tmp_path / "run" / "config.json").read_bytes() == config
    process.communicate("\n")
    assert process.returncode == 0
    keepfast.Experiment(cfg_in(tmp_path)).close()


def test_a_second_experiment_of_the_process_is_refused(tmp_path: Path) -> None:
    """The first is to be closed; then there is room."""
    with keepfast.Experiment(cfg_in(tmp_path)) as first:
        told = f"another experiment of this very process \\({os.getpid()} on .*, since .*close that first"
        with pytest.raises(keepfast.DirectoryError, match=told):
            keepfast.Experiment(cfg_in(tmp_path))
        first.track_data("a", 1.0)
        first.write_tracking_data(1)
    keepfast.Experiment(cfg_in(tmp_path)).close()
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_process_that_keeps_the_error_of_a_refusal_ends_quietly(tmp_path: Path) -> None:
    """What could not start has no end to note, though the error still holds it."""
    program = PREPARED + textwrap.dedent("""
        try:
            keepfast.Experiment(cfg, timesteps=10)
        except keepfast.DirectoryError as refused:
            kept = refused
    """)
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_experiment_that_was_dropped_frees_its_directory(tmp_path: Path, net: Callable[..., Any]) -> None:
    """Whoever forgot to close one can make another."""
    for _ in range(3):
        experiment = keepfast.Experiment(cfg_in(tmp_path), timesteps=10)
        experiment.register(policy=net())
        experiment.track_data("a", 1.0)
        del experiment
    keepfast.Experiment(cfg_in(tmp_path)).close()


def test_an_experiment_that_could_not_start_frees_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong while it is made, the next can have the directory."""
    with monkeypatch.context() as patched:
        patched.setattr("keepfast.runs.checkpointer.Checkpointer.start", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError) as kept:
            keepfast.Experiment(cfg_in(tmp_path))
    keepfast.Experiment(cfg_in(tmp_path)).close()
    with pytest.raises(keepfast.InvalidValue) as kept_too:
        keepfast.Experiment(cfg_in(tmp_path), timesteps=-1)
    keepfast.Experiment(cfg_in(tmp_path)).close()
    assert kept.traceback, kept_too.traceback  # which hold what was half made


def test_a_kill_frees_the_directory(tmp_path: Path, started: Any) -> None:
    """What a killed process left of its lock keeps nobody out."""
    process, _ = started("print('made', flush=True); time.sleep(60)", tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / "run" / LOCK).exists()
    keepfast.Experiment(cfg_in(tmp_path)).close()


@needs_fork
@pytest.mark.parametrize("moment", ["idle", "within the index"])
def test_an_orphan_of_a_killed_owner_keeps_nobody_waiting(tmp_path: Path, started: Any, moment: str) -> None:
    """A forked child that lives on, as a data loader's worker does, has no part in its parent's locks."""
    fork = """
        def fork_and_wait():
            if not os.fork():
                print(os.getpid(), flush=True)
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
    """
    index = """
        from keepfast.checkpoints.index import exclusive
        with exclusive(experiment.directory / "checkpoints"):
            fork_and_wait()
    """
    whole = textwrap.dedent(fork) + ("fork_and_wait()" if moment == "idle" else textwrap.dedent(index))
    process, child = started(whole, tmp_path)
    process.kill()
    process.wait()
    try:
        os.kill(int(child), 0)
        with keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment:
            assert experiment.resume() == 0
            train(experiment)
        os.kill(int(child), 0)
    finally:
        os.kill(int(child), signal.SIGKILL)
    assert keepfast.read_metrics(tmp_path / "run")["a"].steps.tolist() == [5, 10]


@needs_fork
@pytest.mark.parametrize("writers", ["made", "not made"])
def test_calls_in_a_forked_child_are_refused(tmp_path: Path, started: Any, writers: str) -> None:
    """Each names the process that alone writes the run; closing does nothing, and the parent's run is its own."""
    prepared = "writer = experiment.writer\n" if writers == "made" else ""
    process, printed = started(
        prepared
        + textwrap.dedent(
            """
            read, write = os.pipe()
            for timestep in range(3):
                experiment.track_data("a", 1.0)
                experiment.step(timestep)
            if not (child := os.fork()):
                calls = [
                    lambda: experiment.track_data("a", 1.0),
                    lambda: experiment.record_transition(1.0, True, False),
                    lambda: experiment.step(4),
                    lambda: experiment.write_tracking_data(5),
                    lambda: experiment.write_checkpoint(5),
                    lambda: experiment.resume(),
                    lambda: experiment.reset_episodes(),
                    lambda: experiment.describe({}),
                    lambda: experiment.writer.add_scalar("b", 1.0, 1),
                ]
                refused = 0
                for call in calls:
                    try:
                        call()
                    except keepfast.UsageError as error:
                        refused += f"forked from {os.getppid()}" in str(error)
                experiment.wait()
                experiment.close()
                print(refused, len(calls), flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            for timestep in range(3, 10):
                experiment.track_data("a", 1.0)
                experiment.step(timestep)
            experiment.close()
            """
        ),
        tmp_path,
    )
    process.communicate()
    assert process.returncode == 0
    assert printed == "9 9"
    assert {tag: series.steps.tolist() for tag, series in keepfast.read_metrics(tmp_path / "run").items()} == {
        "a": [5, 10]
    }


@needs_fork
def test_a_child_makes_an_experiment_of_its_own(tmp_path: Path, started: Any) -> None:
    """Its end frees nothing of its parent's."""
    process, _ = started(
        """
        if not (child := os.fork()):
            with keepfast.Experiment({**cfg, "experiment_name": "other"}) as own:
                own.track_data("a", 1.0)
                own.write_tracking_data(1)
            del experiment
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        print("still mine", flush=True)
        sys.stdin.readline()
        """,
        tmp_path,
    )
    assert keepfast.read_metrics(tmp_path / "other")["a"].steps.tolist() == [1]
    with pytest.raises(keepfast.DirectoryError, match=f"process {process.pid}"):
        keepfast.Experiment(cfg_in(tmp_path))


def test_readers_need_no_lock(tmp_path: Path, net: Callable[..., Any]) -> None:
    """Metrics, checkpoints and the command line read a run whose owner lives."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment:
        experiment.register(policy=net())
        train(experiment)
        experiment.wait()
        assert keepfast.read_metrics(tmp_path / "run")["a"].steps.tolist() == [5, 10]
        assert read_checkpoint(tmp_path / "run" / "checkpoints" / "agent_10.safetensors").modules
        for command in ("show", "verify"):
            asked = [sys.executable, "-m", "keepfast.cli", command, str(tmp_path / "run")]
            subprocess.run(asked, check=True, capture_output=True, timeout=60)


def test_a_rank_that_does_not_write_needs_no_lock(tmp_path: Path, net: Callable[..., Any]) -> None:
    """It resumes from a directory that the first owns."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as first:
        first.register(policy=net())
        train(first)
        first.wait()
        with (
            pytest.warns(keepfast.KeepfastWarning, match="rank 1"),
            keepfast.Experiment(cfg_in(tmp_path, distributed={"rank": 1, "world_size": 2})) as second,
        ):
            second.register(policy=net(seed=3))
            assert second.resume() == 10


def test_a_file_system_without_locks_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on there, and nothing keeps a second one out."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, flags: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.warns(keepfast.KeepfastWarning, match="the file system lacks locks") as told,
        keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment,
    ):
        train(experiment)
    assert len(told) == 1
    assert keepfast.read_metrics(tmp_path / "run")["a"].steps.tolist() == [5, 10]
