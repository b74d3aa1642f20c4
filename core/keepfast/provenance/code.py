"""What is found out behind training, once in a process: how its code differs from the commit, and slow drivers."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, final

from keepfast._system.lifetimes import in_child
from keepfast.provenance.checkout import Git, commit_of, root_of_code
from keepfast.provenance.machine import gpus

_TELL_SECONDS = 2.0
"""How long after it is known a start waits for a better moment to be written again."""


@final
class Code:
    """The code of this process, which is that of its first start: what was loaded then is what runs.

    The thread that asks is a daemon and owes nobody anything: where the process ends before, nothing is told.
    """

    def __init__(self) -> None:
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        self._begun, self._done = False, threading.Event()
        self._git: Git | None = None
        self._commit: dict[str, Any] = {}
        self._changes: dict[str, Any] = {}
        self._machine: dict[str, Any] = {}

    @property
    def is_known(self) -> bool:
        """Say whether all is known that is asked for."""
        return self._done.is_set()

    def begin(self) -> None:
        """Find the commit at once and ask for the rest, where nobody did before."""
        if self._begun:
            return
        self._begun = True
        root = root_of_code()
        if root is not None:
            self._commit, self._git = commit_of(root), Git(root)
        if not _behind(self._ask):
            self._done.set()

    def _ask(self) -> None:
        done = self._done
        try:
            self._machine = gpus()
            self._changes = {} if self._git is None else self._git.changes()
        finally:
            done.set()

    def tell(self, listener: Callable[[], object]) -> None:
        """Call a method from another thread some time after all is known, where its object still lives then."""
        done, reference = self._done, weakref.WeakMethod(listener)

        def wait() -> None:
            done.wait()
            time.sleep(_TELL_SECONDS)
            if (alive := reference()) is not None:
                alive()

        _behind(wait)

    def settle(self, seconds: float) -> bool:
        """Wait for what is being asked, no longer than that, and say whether it is known then."""
        return self._done.wait(seconds) if self._begun else True

    def told(self, *, changes: bool) -> dict[str, Any]:
        """Return what is known by now, empty where there is no checkout; `changes` says whether with differences."""
        if not self._commit:
            return {}
        return {**self._commit, **(self._changes if changes else {})}

    @property
    def machine(self) -> dict[str, Any]:
        """Return what is known of the machine beyond what it tells at once."""
        return self._machine


def _behind(action: Callable[[], None]) -> bool:
    """Have something done by a thread of its own, and say whether there is one: not at the interpreter's end."""
    try:
        threading.Thread(target=action, daemon=True, name="keepfast-provenance").start()
    except RuntimeError:
        return False
    return True


CODE = Code()
"""That of this process."""
