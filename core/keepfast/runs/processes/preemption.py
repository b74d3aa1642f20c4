"""Notices that the machine is about to be taken away, or that somebody wants the run to end."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
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

_LEAVING_SECONDS = 0.05
"""How long after a call from compiled code the main thread is left alone, so that it is back there."""

_WATCHING: weakref.WeakSet[Preemption] = weakref.WeakSet()
_honoured: set[int] = set()
_afar: tuple[int, int] | None = None


@final
class Preemption:
    """Remembers a signal until the running timestep is complete.

    Only signals that nobody else handles are taken, and only in the main thread. A second signal has its ordinary
    effect, and so has the first where whoever watched is gone, or in a forked child.

    Attributes:
        asked: the signal's number, or None.
        is_held: whether nothing can be done about it now, so that `received` does not tell of it.
        process: the process that watches; its forked children do not.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.is_held = False
        self.process = os.getpid()

    @property
    def received(self) -> int | None:
        """Return the signal's number, or None, also while it is held."""
        return None if self.is_held else self.asked

    def watch(self) -> None:
        """Start to watch; watching already, change nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, default in SIGNALS.items():
            if signal.getsignal(number) is default:
                signal.signal(number, _remember)
        _WATCHING.add(self)

    def watch_from_afar(self) -> None:
        """Have signals noticed that come while the main thread is inside compiled code, where no handler runs."""
        global _afar
        if threading.current_thread() is not threading.main_thread() or self not in _WATCHING:
            return
        if _afar is not None:
            _arrived()  # what came before is old news
            return
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        earlier = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        if earlier == -1:
            _afar = reading, writing
        else:  # somebody else's, an event loop's perhaps
            signal.set_wakeup_fd(earlier)
            os.close(reading)
            os.close(writing)

    def look_from_afar(self) -> None:
        """Take note of a signal that came while the main thread was inside compiled code; from any thread."""
        for number in _arrived():
            if self.asked is None and self in _WATCHING and signal.getsignal(number) is _remember:
                self.asked = number

    def release(self) -> None:
        """Stop to watch; the last one gives the signals back."""
        _WATCHING.discard(self)
        _release_signals()


def raise_honoured() -> None:
    """Raise what a signal asks for that was honoured within compiled code, where it was not raised since."""
    if _honoured and threading.current_thread() is threading.main_thread():
        number = _honoured.pop()
        _release_signals()
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _remember(number: int, _frame: FrameType | None) -> None:
    if number in _honoured:
        raise_honoured()
    unaware = [one for one in _WATCHING if one.asked is None and one.process == os.getpid()]
    for preemption in unaware:
        preemption.asked = number
    if unaware and number == signal.SIGINT:
        with contextlib.suppress(OSError):
            os.write(2, _INTERRUPTED)  # a handler may come in the midst of a print, which cannot be entered twice
    if not unaware:
        _give_back()
        os.kill(os.getpid(), number)


def end_main_thread(error: BaseException) -> None:
    """Raise in the main thread, once it is out of compiled code, what a signal asks for that was honoured within.

    Args:
        error: what `Experiment.step` raised at the signal.
    """
    number = error.code - 128 if isinstance(error, SystemExit) and isinstance(error.code, int) else signal.SIGINT
    _honoured.add(number)
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, _remember)

    def interrupt() -> None:
        time.sleep(_LEAVING_SECONDS)
        if number in _honoured:
            _thread.interrupt_main(signal.Signals(number))

    threading.Thread(target=interrupt, daemon=True, name="keepfast-interrupt").start()


def _arrived() -> bytes:
    """Return the numbers of the signals that arrived since this was last asked, whoever handles them."""
    with contextlib.suppress(BlockingIOError):
        return bytes(number for number in os.read(_afar[0], 4096) if number in SIGNALS) if _afar is not None else b""
    return b""


def _release_signals() -> None:
    """Give the signals back where nobody watches any more."""
    if not _WATCHING:
        _give_back()


def _give_back() -> None:
    if threading.current_thread() is threading.main_thread():
        for number, default in SIGNALS.items():
            if signal.getsignal(number) is _remember:
                signal.signal(number, default)


in_child(_give_back)
