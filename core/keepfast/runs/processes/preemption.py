"""Notices that the machine is about to be taken away, or that somebody wants the run to end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from types import FrameType
from typing import Any, final

from keepfast._system.lifetimes import in_child

SIGNALS: dict[int, Any] = {
    getattr(signal, name): default
    for name, default in (
        ("SIGTERM", signal.SIG_DFL),
        ("SIGUSR1", signal.SIG_DFL),
        ("SIGINT", signal.default_int_handler),
    )
    if hasattr(signal, name)
}
"""The signals with what handles them where nobody else does: SIGTERM as any scheduler sends it, SIGUSR1 as SLURM does
ahead of it, and Ctrl-C."""

_INTERRUPTED = b"Ctrl-C: this timestep is completed and the run saved first; press it again to end at once\n"

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
        for number, default in SIGNALS.items():
            if signal.getsignal(number) is default:
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
    if unaware and number == signal.SIGINT:
        with contextlib.suppress(OSError):
            os.write(2, _INTERRUPTED)  # a handler may come in the midst of a print, which cannot be entered twice
    if not unaware:
        _give_back()
        os.kill(os.getpid(), number)


def _give_back() -> None:
    if threading.current_thread() is threading.main_thread():
        for number, default in SIGNALS.items():
            if signal.getsignal(number) is _remember:
                signal.signal(number, default)


in_child(_give_back)
