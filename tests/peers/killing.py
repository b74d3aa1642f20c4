"""Programs that are run in processes of their own, killed, and compared by what they left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keepfast
from keepfast.plain.packing import is_packed, unpack

BESIDE = ("time/", "Perf/", "performance/")
"""How tags begin whose values are the clock's."""


def started(program: str, directory: Path) -> subprocess.Popen[str]:
    directory.mkdir(exist_ok=True)
    pipes: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=directory, env={**os.environ, "MPLBACKEND": "agg"}, **pipes
    )


def finished(program: str, directory: Path) -> None:
    process = started(program, directory)
    try:
        _, errors = process.communicate(timeout=900)
    finally:
        process.kill()  # of no consequence where it has ended
    assert process.returncode == 0, errors


def killed_at_its_first_checkpoint(program: str, directory: Path) -> None:
    process = started(program, directory)
    while not (found := list(directory.glob("runs/*/checkpoints/agent_*"))) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert found, errors
    assert process.returncode == -signal.SIGKILL, "the program had come to its end before it was killed"


def last_checkpoint(directory: Path) -> dict[str, Any]:
    paths = [path for path in directory.glob("runs/*/checkpoints/agent_*") if path.suffix != ".json"]
    states = keepfast.read_checkpoint(max(paths, key=lambda path: int(path.stem.rpartition("_")[2])))
    return {name: unpack(state) if is_packed(state) else state for name, state in states.items()}


def metrics(directory: Path) -> dict[str, Any]:
    (run,) = {path.parent for path in directory.glob("runs/*/checkpoints")}
    read = keepfast.read_metrics(run)
    return {tag: (each.steps, each.values) for tag, each in read.items() if not tag.startswith(BESIDE)}


def without_times(node: Any) -> Any:
    """Return a tree without what the clock told: the ages of episodes, and rates of steps."""
    if isinstance(node, dict):
        for names, values in (("keys", "values"), ("names", "values"), ("keys", "columns")):
            if names in node and values in node:
                pairs = zip(node[names], node[values], strict=True)
                return [[key, without_times(value)] for key, value in pairs if is_no_time(key)]
        return {key: without_times(value) for key, value in node.items() if is_no_time(key)}
    return [without_times(each) for each in node] if isinstance(node, list | tuple) else node


def is_no_time(key: Any) -> bool:
    return key not in ("t", "episode_times", "logger.tot_time") and not (
        isinstance(key, str) and key.startswith(BESIDE)
    )
