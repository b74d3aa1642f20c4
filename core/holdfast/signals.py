"""Notices that the machine is about to be taken away."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, final

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""SIGTERM as any scheduler sends it, and SIGUSR1 as SLURM does ahead of it."""


@final
class Preemption:
    """Remembers a signal until the running timestep is complete.

    Only signals that nobody else handles are taken, and only in the main thread; `release` gives them back.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def watch(self) -> None:
        """Start to watch."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._previous[number] = signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.received = number

    def release(self) -> None:
        """Give the signals back."""
        if threading.current_thread() is threading.main_thread():
            for number, previous in self._previous.items():
                signal.signal(number, previous)
        self._previous.clear()
