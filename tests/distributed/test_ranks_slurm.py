"""Tasks of an array on SLURM end at a signal, are queued again and go on, and each has one owner."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keepfast.runs.processes.ownership import is_owned

EXAMPLE = Path(__file__).parents[2] / "examples" / "slurm"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the script is one of bash")

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return what starts a task as SLURM does: with its script, and stand-ins for the commands that this calls."""
    commands = {
        "srun": 'exec "$@"',
        "scontrol": f'echo "$@" >> "{tmp_path}/queued"',
        "python": f'exec {sys.executable} "$@"',
    }
    (tmp_path / "bin").mkdir()
    for name, does in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def start(task: int, *arguments: str) -> subprocess.Popen[bytes]:
        own = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_PROCID": "0"}
        environment = {**os.environ, **own, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        command = ["bash", str(EXAMPLE / "array.sh"), "--directory", str(tmp_path / "runs"), "--timesteps", "60"]
        with (tmp_path / "log").open("a") as log:
            return subprocess.Popen([*command, *arguments], env=environment, cwd=EXAMPLE, stdout=log, stderr=log)

    return start


def under_way(run: Path, after: int = 0) -> int:
    """Return the process that owns a run, once it has written something beyond a timestep."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, IndexError):  # not there yet, or being written
            if curve(run)[-1][0] > after + 2:
                return int(json.loads((run / ".keepfast.lock").read_text())["pid"])
        time.sleep(0.02)
    raise AssertionError("the task did not come under way")


def curve(run: Path) -> list[tuple[int, dict[str, float]]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["scalars"]) for line in lines]


def test_a_task_that_is_queued_again_ends_as_one_that_was_not(start: Start, tmp_path: Path) -> None:
    """Told to end, it saves and is queued; killed, it goes on all the same; meanwhile no other may have its run."""
    run = tmp_path / "runs" / "lr-0.01-seed-1"
    task = start(2, "--seconds", "0.3")
    owner = under_way(run)
    assert start(2).wait(60) == 1
    assert "is in use by process" in (tmp_path / "log").read_text()
    os.kill(owner, signal.SIGUSR1)
    assert task.wait(60) == 0
    assert (tmp_path / "queued").read_text() == "requeue 7_2\n"
    assert not is_owned(run)
    again = start(2, "--seconds", "0.3")
    os.kill(under_way(run, after=curve(run)[-1][0]), signal.SIGKILL)
    assert again.wait(60) != 0
    assert start(2).wait(60) == 0
    uncut = tmp_path / "elsewhere"
    whole = start(2, "--directory", str(uncut))
    assert whole.wait(60) == 0
    assert curve(run) == curve(uncut / "lr-0.01-seed-1")
    assert (tmp_path / "queued").read_text() == "requeue 7_2\n"


@pytest.mark.needs("submitit")
def test_submitit_queues_a_task_again_that_goes_on(tmp_path: Path) -> None:
    """Interrupted by its signal, and started anew by it, a task ends where it would have ended."""
    import submitit

    task = runpy.run_path(str(EXAMPLE / "train.py"))["Task"]
    executor = submitit.LocalExecutor(folder=tmp_path / "submitit")
    executor.update_parameters(timeout_min=2)
    run = tmp_path / "runs" / "lr-0.01-seed-1"
    job = executor.submit(task(2, str(tmp_path / "runs"), 60, 0.2))
    os.kill(under_way(run), signal.SIGUSR2)
    score = job.result()
    whole = executor.submit(task(2, str(tmp_path / "elsewhere"), 60, 0.0)).result()
    assert score == whole
    assert curve(run) == curve(tmp_path / "elsewhere" / "lr-0.01-seed-1")
