"""The machine is about to be taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from keepfast.runs.processes import preemption
from keepfast.runs.processes.preemption import SIGNALS, Preemption

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    preemption._WATCHING.clear()  # experiments that other tests left open
    before = {number: signal.signal(number, default) for number, default in SIGNALS.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_and_does_not_end_the_process(number: int) -> None:
    """SIGTERM, SIGUSR1 as SLURM sends it, and Ctrl-C; `release` gives all back to the system and to Python."""
    preemption = Preemption()
    preemption.watch()
    assert preemption.received is None
    os.kill(os.getpid(), number)
    assert preemption.received == number
    preemption.release()
    assert {number: signal.getsignal(number) for number in SIGNALS} == SIGNALS


def test_a_signal_that_somebody_else_handles_stays_theirs() -> None:
    """A program's own handler is not replaced, and not removed at the end."""

    def own(number: int, frame: Any) -> None:
        return

    signal.signal(signal.SIGTERM, own)
    preemption = Preemption()
    preemption.watch()
    assert signal.getsignal(signal.SIGTERM) is own
    preemption.release()
    assert signal.getsignal(signal.SIGTERM) is own


def test_outside_the_main_thread_nothing_is_watched() -> None:
    """Python allows handlers in the main thread only; elsewhere an experiment works without."""
    preemption = Preemption()
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(preemption.watch).result()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        elsewhere.submit(preemption.release).result()


def test_two_experiments_both_notice() -> None:
    """One signal reaches everybody who watches; the last to go gives it back."""
    first, second = Preemption(), Preemption()
    first.watch()
    second.watch()
    first.release()
    os.kill(os.getpid(), signal.SIGTERM)
    assert (first.received, second.received) == (None, signal.SIGTERM)
    second.release()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


ENDING = """
import os, signal, sys, time
from keepfast.runs.processes.preemption import Preemption

preemption = Preemption()
preemption.watch()
how = sys.argv[1]
if how == "forked":
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"here")
        time.sleep(60)
    os.read(reading, 4)
    os.kill(child, signal.SIGTERM)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    preemption.release()
    sys.exit(0 if ended == -signal.SIGTERM else 1)
if how == "trained":
    child = os.fork()
    if child == 0:
        own = Preemption()
        own.watch()
        own.release()
        signal.raise_signal(signal.SIGTERM)
        os._exit(3)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    preemption.release()
    sys.exit(0 if ended == -signal.SIGTERM else 1)
if how == "forgotten":
    del preemption
else:
    os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("how", "code"),
    [("forked", 0), ("trained", 0), ("forgotten", -signal.SIGTERM), ("second", -signal.SIGTERM)],
)
def test_a_signal_ends_what_does_not_train(how: str, code: int) -> None:
    """A forked child, though it trained, a process whose experiment is gone, and one told twice end by the signal."""
    assert subprocess.run([sys.executable, "-c", ENDING, how], timeout=30, check=False).returncode == code
