"""One thread behind training that does what was promised, in order, with back-pressure."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import final

from keepfast._system.lifetimes import at_exit, in_child
from keepfast._system.warnings import announce
from keepfast.errors import WaitedInVain

_TELL_SECONDS = 30.0
"""After how many seconds of waiting it is told what is waited for."""

_GIVE_UP_SECONDS = 3600.0
"""After how many seconds of waiting it is an error: large states take minutes, and a disk that hangs does for ever."""


_PLACED: weakref.WeakSet[Background] = weakref.WeakSet()
"""Those whose jobs write in a directory that is known."""


def wait_for_writing(path: Path) -> None:
    """Return when what this process writes behind training at a path, or in it, is there.

    Raises:
        WaitedInVain: if a job hangs.
    """
    place = path.absolute()
    for background in list(_PLACED):
        if background.place in (place, place.parent):
            background.settle()


@final
class Background:
    """Runs jobs one at a time on a thread of its own.

    A job's failure is raised at the next `submit`, `wait` or `close`, whichever comes first. At interpreter exit all
    jobs are finished first. In a forked child the jobs are forgotten: they are the parent's, which does them.
    Whoever waits for long is told for what, and a job that hangs is waited for once, and not without end.

    Args:
        name: names the thread.
        limit: how many jobs may be unfinished; `submit` waits for room beyond that.
        does: what a job does, for whoever waits: "a checkpoint to be written".
    """

    def __init__(self, name: str, limit: int = 1, *, does: str = "what is done behind training") -> None:
        self._name, self._limit, self._does = name, limit, does
        self._place: Path | None = None
        self._failures: deque[BaseException] = deque()
        self._reset()
        at_exit(self.close)
        in_child(self._reset)

    def _reset(self) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._unfinished = 0
        self._failures.clear()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hangs = False

    @property
    def place(self) -> Path | None:
        """Where the jobs write, so that whoever reads there can wait for them; None is nowhere in particular."""
        return self._place

    @place.setter
    def place(self, place: Path | None) -> None:
        self._place = place
        _PLACED.add(self)

    def settle(self) -> None:
        """Return when every job is done, and leave what went wrong to whoever asked for them."""
        with self._changed:
            if threading.current_thread() is not self._thread:
                self._wait_until(self._is_idle)

    def submit(self, job: Callable[[], None]) -> None:
        """Queue a job; waits while `limit` jobs are unfinished.

        Raises:
            BaseException: what an earlier job raised; the new job is then not queued.
            WaitedInVain: if an earlier job hangs; as then.
        """
        with self._changed:
            self._wait_until(self._has_room)
            self._raise_failure()
            behind = self._thread is not None or self._start()
            if behind:
                self._jobs.append(job)
                self._unfinished += 1
                self._changed.notify_all()
        if not behind:
            job()

    def _start(self) -> bool:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # no more threads: the interpreter is on its way out, or the system refuses
            self._thread = None
            return False
        return True

    @property
    def failures(self) -> Collection[BaseException]:
        """Return what jobs raised and was not told yet, the same object at each call; to look at it costs nothing."""
        return self._failures

    def room(self) -> None:
        """Return when there is room for another job, so that whatever it holds need not be made before.

        Raises:
            BaseException: what a job raised.
            WaitedInVain: if one hangs.
        """
        with self._changed:
            self._wait_until(self._has_room)
            self._raise_failure()

    def wait(self) -> None:
        """Return when every job is done.

        Raises:
            BaseException: what a job raised.
            WaitedInVain: if one hangs.
        """
        with self._changed:
            self._wait_until(self._is_idle)
            self._raise_failure()

    def close(self) -> None:
        """Finish every job and end the thread; the next `submit` starts another.

        Raises:
            BaseException: what a job raised.
            WaitedInVain: if one hangs, whose thread is left to itself then.
        """
        with self._changed:
            self._wait_until(self._is_idle)
            self._thread = None
            self._changed.notify_all()
            self._raise_failure()

    def _has_room(self) -> bool:
        return self._unfinished < self._limit or bool(self._failures)

    def _is_idle(self) -> bool:
        return self._unfinished == 0

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait for what jobs bring about; the caller holds the condition."""
        began, until = time.monotonic(), _TELL_SECONDS
        while not self._changed.wait_for(ready, 0 if self._hangs else until - (time.monotonic() - began)):
            if self._hangs or until == _GIVE_UP_SECONDS:
                self._hangs = True
                raise WaitedInVain(
                    f"waited in vain for {self._does}, for {_GIVE_UP_SECONDS:g} seconds; look whether the disk, or "
                    "what it is mounted from, still answers"
                )
            announce(f"waiting for {self._does}; after {_GIVE_UP_SECONDS:g} seconds in all this is an error")
            until = _GIVE_UP_SECONDS

    def _raise_failure(self) -> None:
        if self._failures:
            raise self._failures.popleft()

    def _run(self) -> None:
        me = threading.current_thread()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs) or self._thread is not me)
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            failure = _outcome(job)
            del job  # it may hold hundreds of megabytes
            with self._changed:
                self._unfinished -= 1
                self._hangs = False
                if failure is not None:
                    self._failures.append(failure)
                self._changed.notify_all()


def _outcome(job: Callable[[], None]) -> BaseException | None:
    try:
        job()
    except BaseException as error:  # noqa: BLE001  (kept, and raised in the thread that trains)
        return error
    return None
