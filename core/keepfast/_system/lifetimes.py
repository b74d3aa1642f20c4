"""What is done when the process ends in order, and what in a child that was forked from it.

Whoever has something to finish, or something that a child must not share, says so here once, for itself.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  (names its own end when it is imported)
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from types import MethodType
from typing import final

_Action = Callable[[], object]


@final
class _Actions:
    """Actions in the order they came."""

    def __init__(self) -> None:
        self._held: dict[int, Callable[[], _Action | None]] = {}  # changed and listed in one step each: no lock to fork
        self._number = itertools.count()

    def add(self, action: _Action) -> None:
        """Add an action; a method goes when its object does, a function stays."""
        number = next(self._number)
        if not isinstance(action, MethodType):
            self._held[number] = lambda: action
            return
        function, owner = action.__func__, weakref.ref(action.__self__, lambda _: self._held.pop(number, None))
        self._held[number] = lambda: None if (alive := owner()) is None else MethodType(function, alive)

    def perform(self, *, last_first: bool) -> None:
        """Do them all, whatever some of them raise; then tell each error as Python tells what nobody caught."""
        actions = [action for action in (held() for held in list(self._held.values())) if action is not None]
        errors: list[BaseException] = []
        for action in reversed(actions) if last_first else actions:
            try:
                action()
            except BaseException as raised:  # noqa: BLE001  (told below: at these moments nobody can catch it)
                errors.append(raised)
        for error in errors:
            sys.excepthook(type(error), error, error.__traceback__)


_at_exit, _in_child, _before_exit = _Actions(), _Actions(), _Actions()


def at_exit(action: _Action) -> None:
    """Have something done when the interpreter exits in order, not where the process is killed.

    What was named last is done first, since it may use what was there before it. Threads still run then, but Python
    may refuse to start new ones.

    Args:
        action: a method, which is done if its object is still alive, or a function.
    """
    _at_exit.add(action)


def before_exit(action: _Action) -> None:
    """Have something done before all of that, as long as threads can be started, and clients can connect.

    The program's own last line was reached by then. Where Python has no such moment, it is never done.

    Args:
        action: as for `at_exit`.
    """
    _before_exit.add(action)


def in_child(action: _Action) -> None:
    """Have something done in every child that is forked from this process, before it does anything else.

    None but the forking thread lives on in a child. What the others held stays locked there, and what they were in the
    midst of is never finished. Actions are done in the order they were named.

    Args:
        action: a method, which is done if its object is still alive, or a function.
    """
    _in_child.add(action)


def _exit() -> None:
    _at_exit.perform(last_first=True)


def _end() -> None:
    _before_exit.perform(last_first=True)


def _forked() -> None:
    _in_child.perform(last_first=False)


atexit.register(_exit)
if (_register := getattr(threading, "_register_atexit", None)) is not None:  # Python's own, as executors have it
    _register(_end)  # done before executors end, which were named before
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
