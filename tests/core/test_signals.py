"""The machine is about to be taken away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast.signals import SIGNALS, Preemption

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_and_does_not_end_the_process(number: int) -> None:
    """SIGTERM, and SIGUSR1 as SLURM sends it; `release` gives both back to the system."""
    preemption = Preemption()
    preemption.watch()
    assert preemption.received is None
    os.kill(os.getpid(), number)
    assert preemption.received == number
    preemption.release()
    assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * len(SIGNALS)


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
