"""The one way Keepfast tells of something that does not stop the run."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType, TracebackType
from typing import Self, final

from keepfast._system.finishing import finish
from keepfast.errors import KeepfastWarning, printable

_OWN = ("keepfast", "keepfast_torch", "keepfast_jax", "keepfast_writers")


_listeners: list[weakref.WeakMethod[Callable[[str], object]]] = []


def listen(listener: Callable[[str], object]) -> None:
    """Have a method called with each message from now on, as long as its object lives."""
    if isinstance(listener, MethodType):
        _listeners.append(weakref.WeakMethod(listener, _listeners.remove))


@final
class _Held(threading.local):
    """What a thread holds back; None where it tells at once."""

    messages: list[str] | None = None


_held = _Held()


@final
class Afterwards:
    """Holds back what the thread has to tell until something is done, because a warning may be made an error.

    What is done is then complete, and of several such errors the first is raised and notes the others. Within another
    one nothing is told: that is left to the outer one.

    Example::

        with Afterwards():
            write(take_what_waits())  # whatever this warns of, it is written
    """

    def __enter__(self) -> Self:
        self._outermost = _held.messages is None
        if self._outermost:
            _held.messages = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outermost:
            messages, _held.messages = _held.messages, None
            if messages:
                finish(*(partial(warn, message) for message in messages), after=error)


def warn(message: str) -> None:
    """Warn, pointing at the line of the user's code that led here; within `Afterwards` at its end."""
    if _held.messages is not None:
        _held.messages.append(message)
    else:
        _tell(message)


def announce(message: str) -> None:
    """Warn at once of a wait that is under way, within `Afterwards` too, whose end is what is waited for.

    Nothing went wrong yet, so it is never an error: where warnings are, it is a line on stderr.
    """
    try:
        _tell(message)
    except KeepfastWarning:
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
            sys.stderr.write(f"KeepfastWarning: {message}\n")


def _tell(message: str) -> None:
    for reference in _listeners:
        if (listener := reference()) is not None:
            listener(message)
    level = 2
    frame = sys._getframe(1)  # noqa: SLF001  (the interpreter's own, documented)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        frame = frame.f_back
        level += 1
    warnings.warn(printable(message), KeepfastWarning, stacklevel=level)
