"""Kills processes that save without pause, and looks at what they leave."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keepfast.checkpoints.directory import CheckpointDirectory

KILLS = int(os.environ.get("KEEPFAST_KILLS", "15"))
"""How many in the suite; the session `crash` asks for fifty."""

WORKER = Path(__file__).with_name("kill_worker.py")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("naming", ["same", "successive"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("torch", "jax")])
def test_every_kill_leaves_the_newest_durable_checkpoint_loadable(
    backend: str, mode: str, naming: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After each SIGKILL the newest checkpoint that was durable, or a newer one, loads and is whole."""
    generator = random.Random(f"{backend} {mode} {naming}")
    directory = CheckpointDirectory(tmp_path / "killed" / "checkpoints")
    litter = 0
    command = [sys.executable, str(WORKER), backend, mode, naming, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for _ in range(KILLS):
            worker.stdin.write("go\n")
            worker.stdin.flush()
            durable = _kill_one(worker.stdout, generator.uniform(0.0, 0.25))
            litter += len(list(directory.path.glob(".*")))
            assert _newest_value(directory) >= durable
        worker.stdin.close()
    with capsys.disabled():
        print(f"\n{backend} {mode} {naming}: {KILLS} of {KILLS} kills left a loadable checkpoint, {litter} left litter")


def _kill_one(lines: object, delay: float) -> int:
    """Kill the child some time after its first durable save; return the last one it told of."""
    durable, child = 0, 0
    for line in lines:  # type: ignore[attr-defined]
        word, _, number = line.strip().partition(" ")
        if word == "child":
            child = int(number)
        elif word == "durable":
            if durable == 0:
                time.sleep(delay)
                os.kill(child, signal.SIGKILL)
            durable = int(number)
        elif word == "gone":
            return durable
    raise AssertionError("the worker ended by itself")


def _newest_value(directory: CheckpointDirectory) -> int:
    newest = next(iter(directory.newest_first(best=False)))
    tree = directory.read(newest).state["policy"]
    weight = np.asarray(tree["weight"])
    assert (weight == weight.flat[0]).all()  # all of one save, nothing of another
    return int(weight.flat[0])
