"""Notices that the machine is about to be taken away."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from types import FrameType
from typing import final

from keepfast._system.lifetimes import in_child

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""SIGTERM as any scheduler sends it, and SIGUSR1 as SLURM does ahead of it."""

_WATCHING: weakref.WeakSet[Preemption] = weakref.WeakSet()


@final
class Preemption:
    """Remembers a signal until the running timestep is complete.

    Only signals that nobody else handles are taken, and only in the main thread. A second signal has its ordinary
    effect, and so has the first where whoever watched is gone, or in a forked child.

    Attributes:
        received: the signal's number, or None.
        process: the process that watches; its forked children do not.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.process = os.getpid()

    def watch(self) -> None:
        """Start to watch; watching already, change nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _remember)
        _WATCHING.add(self)

    def release(self) -> None:
        """Stop to watch; the last one gives the signals back."""
        _WATCHING.discard(self)
        if not _WATCHING:
            _give_back()


def _remember(number: int, _frame: FrameType | None) -> None:
    unaware = [one for one in _WATCHING if one.received is None and one.process == os.getpid()]
    for preemption in unaware:
        preemption.received = number
    if not unaware:
        _give_back()
        os.kill(os.getpid(), number)


def _give_back() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is _remember:
                signal.signal(number, signal.SIG_DFL)


in_child(_give_back)
