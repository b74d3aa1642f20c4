"""Loops under `keepfast_jax.scan` that are told to end, or killed, end as if nothing had been, started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import keepfast

WORKER = Path(__file__).with_name("scan_worker.py")
KILLS = 6
MANY, INTERVAL = 30_000_000, 1000
"""Steps of a loop that counts, and of its writes; told to the worker."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks children and signals them")


class Worker:
    """Runs loops in processes of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        command = [sys.executable, str(WORKER), str(directory), str(MANY), str(INTERVAL)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _line(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def run(self, form: str, name: str, meddle: Callable[[int], None] | None = None) -> int:
        """Run a loop, have somebody meddle with its process, and return what it exited with."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{form} {name}\n")
        self.process.stdin.flush()
        child = self._line()
        if meddle is not None:
            meddle(child)
        return self._line()

    def checkpoints(self, name: str) -> set[str]:
        return {path.name for path in (self.directory / name / "checkpoints").glob("agent_*")}

    def after_a_checkpoint(self, name: str, delay: float, number: int) -> Callable[[int], None]:
        """Return what sends a signal some time after the run has stored another checkpoint."""
        before = self.checkpoints(name)

        def meddle(child: int) -> None:
            deadline = time.monotonic() + 100
            with contextlib.suppress(ProcessLookupError):  # it was at its end before
                while self.checkpoints(name) <= before and time.monotonic() < deadline:
                    os.kill(child, 0)
                    time.sleep(0.01)
                time.sleep(delay)
                os.kill(child, number)

        return meddle

    def assert_same(self, name: str, whole: str) -> None:
        """Compare the last carries bit by bit, and all metrics."""
        found, expected = (np.load(self.directory / f"{each}.npz") for each in (name, whole))
        assert all(found[part].tobytes() == expected[part].tobytes() for part in ("value", "key"))
        metrics, reference = (keepfast.read_metrics(self.directory / each) for each in (name, whole))
        assert metrics.keys() == reference.keys()
        for tag, (steps, values, _) in reference.items():
            assert (metrics[tag][0].tolist(), metrics[tag][1].tolist()) == (steps.tolist(), values.tolist())


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Return a worker, with an uninterrupted run of each form, named by it."""
    made = Worker(tmp_path_factory.mktemp("stops"))
    yield made
    made.process.communicate(timeout=60)


@pytest.fixture
def whole(worker: Worker) -> Callable[[str], str]:
    """Return a maker of uninterrupted runs, each made once."""

    def make(form: str) -> str:
        if not (worker.directory / f"{form}.npz").exists():
            assert worker.run(form, form) == 0
        return form

    return make


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("form", "number", "code"),
    [("outside", signal.SIGTERM, 143), ("inside", signal.SIGTERM, 143), ("inside", signal.SIGINT, 130)],
)
def test_a_stop_is_honoured_at_the_next_interval(
    worker: Worker, whole: Callable[[str], str], form: str, number: int, code: int
) -> None:
    """With a checkpoint; the program is unwound, and started again it ends with the same bits and metrics."""
    name = f"{form}_{signal.Signals(number).name}"
    assert worker.run(form, name, worker.after_a_checkpoint(name, 0.05, number)) == code
    assert (worker.directory / f"{name}.unwound").exists()
    assert not (worker.directory / f"{name}.npz").exists()
    assert worker.run(form, name) == 0
    worker.assert_same(name, whole(form))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("form", ["counting_outside", "counting_inside"])
def test_a_stop_ends_a_loop_that_only_writes(worker: Worker, form: str) -> None:
    """At the next interval, with a checkpoint of then; the rest of the loop is not taken."""
    rows = worker.directory / form / "metrics.jsonl"

    def interrupt(child: int) -> None:
        deadline = time.monotonic() + 60
        while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(child, signal.SIGINT)

    assert worker.run(form, form, interrupt) == 130
    (path,) = (worker.directory / form / "checkpoints").glob("agent_*")
    completed = int(path.stem.removeprefix("agent_"))
    assert 0 < completed < MANY
    assert completed % INTERVAL == 0
    assert float(keepfast.read_checkpoint(path)["carry"]) == completed


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["outside", "inside", "seeds"])
def test_killed_at_random_moments_a_run_ends_as_one_that_never_was(
    worker: Worker, whole: Callable[[str], str], form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL, again and again: bit-equal carries, and the metrics of an uninterrupted run."""
    generator, name, kills = random.Random(form), f"{form}_killed", 0
    for _ in range(KILLS):
        kill = worker.after_a_checkpoint(name, generator.uniform(0.0, 0.2), signal.SIGKILL)
        kills += worker.run(form, name, kill) == -signal.SIGKILL
    assert worker.run(form, name) == 0
    worker.assert_same(name, whole(form))
    assert kills
    with capsys.disabled():
        print(f"\n{form}: {kills} kills, then the same bits and metrics")
