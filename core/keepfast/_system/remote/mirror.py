"""Uploads a run behind training, as long as it lives: again and again, whatever the network does."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import final

from keepfast._system.finishing import finish
from keepfast._system.lifetimes import at_exit, in_child
from keepfast._system.remote.addresses import Address
from keepfast._system.remote.lease import Lease
from keepfast._system.remote.pulling import pull
from keepfast._system.remote.record import Record
from keepfast._system.remote.store import Store, patiently
from keepfast._system.remote.uploading import Layout, Uploading
from keepfast._system.tally import Count, Tally
from keepfast._system.warnings import warn
from keepfast.errors import DirectoryError, WaitedInVain

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_LONGEST_AWAITED_PAUSE = 5.0
"""How long it pauses at most while somebody waits."""

_FAILED = "upload"
_ALIVE_SECONDS = 20.0

_LOOK_SECONDS, _LOOK_AGAIN = 60.0, 0.05
"""How long, and how often, a process looks whether the owner on this machine has what it goes on with."""

_AT_EXIT_SECONDS = 10.0
"""How long it is waited for what is named at the end of a program: clients may not connect any more."""

_MIRRORS: weakref.WeakSet[Mirror] = weakref.WeakSet()


@final
class Mirror:
    """Has an object store hold what a run's directory holds.

    Args:
        directory: the run's directory, in the spool.
        address: the run on the store.
        layout: what the directory holds.
        interval: after how many seconds metrics go up.
        patience: for how many seconds `wait` and `close` wait.
        after: called behind training after each pass, with whether it is the last.
    """

    def __init__(
        self,
        directory: Path,
        address: Address,
        layout: Layout,
        *,
        interval: float,
        patience: float,
        after: Callable[[bool], object],
    ) -> None:
        self.directory, self.address = directory, address
        self._layout, self._interval, self._patience, self._after = layout, interval, patience, after
        self._store, self._record = Store(address), Record.of(directory)
        self._lease = Lease(self._store, self._record.token)
        self._tally, self._lost = Tally(), ""
        self._uploading = Uploading(directory, self._store, self._record, layout, self._proceed)
        self._reset()
        in_child(self._reset)
        _MIRRORS.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._asked = self._done = 0
        self._news = self._ending = self._ended = False
        self._passed_at = time.monotonic()

    def take(self) -> None:
        """Own the run, and have here what it goes on with.

        Raises:
            DirectoryError: if another owns it.
            RemoteError: if the store refuses, or cannot be reached for a minute.
        """
        for other in list(_MIRRORS):
            if other is not self and other.directory == self.directory:
                other.abandon()  # of a run that nobody has any more
        patiently(self._lease.take)
        self._record.token, self._record.is_complete = self._lease.token, False
        try:
            patiently(self._pull)
        except BaseException:
            self.release()
            raise

    def look(self, is_owned: Callable[[Path], bool]) -> None:
        """Have here what the run goes on with, which another process owns: on this machine, or elsewhere.

        Raises:
            RemoteError: as `take`.
        """
        until = time.monotonic() + _LOOK_SECONDS
        while is_owned(self.directory) and time.monotonic() < until:
            if Record.of(self.directory).address:
                return
            time.sleep(_LOOK_AGAIN)
        is_new = not Record.of(self.directory).address
        patiently(self._pull)
        self._record.is_complete |= is_new
        self._record.store(self.directory)

    def _pull(self) -> None:
        pull(self.directory, self._store, self._record, self._layout)
        self._record.address = str(self.address)
        self._record.store(self.directory)

    def start(self) -> None:
        """Begin to upload."""
        if self._thread is None and not self._ended:
            self._thread = threading.Thread(target=self._run, name="keepfast-upload", daemon=True)
            self._thread.start()
            threading.Thread(target=self._stay_alive, name="keepfast-lease", daemon=True).start()

    def wake(self) -> None:
        """Be told that there is something that is not to wait for the interval."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def wait(self) -> None:
        """Return when all that the directory holds now is on the store; at once where another process uploads it.

        Raises:
            WaitedInVain: if it is not within the patience; says why, and where it lies.
        """
        if self._thread is not None and not self._ended and not self._uploaded(ending=False):
            raise WaitedInVain(self._not_uploaded())

    def close(self) -> None:
        """Upload the rest, and let others have the run; tells what is not uploaded, and where it lies."""
        if self._thread is None or self._ended:
            return
        uploaded = self._uploaded(ending=True)
        self._ended = True
        told = [] if uploaded else [partial(warn, self._not_uploaded())]
        finish(self.tell, partial(self._tally.tell_sum, _all_failures, clear=True), *told)

    def let_go(self) -> None:
        """Upload the rest, and let others have the run, in its own time: of a run that nobody has any more."""
        with self._changed:
            self._asked, self._ending = self._asked + 1, True
            self._changed.notify_all()

    def hurry(self) -> None:
        """Wait for little from now on."""
        self._patience = min(self._patience, _AT_EXIT_SECONDS)

    def release(self) -> None:
        """Let others have the run, of which nothing more is uploaded; twice is fine."""
        if self._ended:
            return
        self.abandon()
        try:
            self._lease.release()
        except OSError as error:
            self._tally.count(_FAILED, str(error))

    def abandon(self) -> None:
        """Upload nothing more; returns when that is so, or soon."""
        self._ended = True
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_LONGEST_AWAITED_PAUSE)

    def tell(self) -> None:
        """Tell of uploads that failed, the first time there is one."""
        self._tally.tell(lambda _, count: self._failure(count))

    def _failure(self, count: Count) -> str:
        if self._lost:
            return self._lost
        return (
            f"what the run keeps could not be uploaded: {count.first}. It lies in `{self.directory}` and is tried "
            "again and again; training goes on, and further failures are counted"
        )

    def _not_uploaded(self) -> str:
        reason = self._lost or (f"the last reason: {self._reason}" if self._reason else "it takes longer")
        waited = "" if self._lost else f" within {self._patience:g} seconds"
        return (
            f"not all of the run is at `{self.address}`{waited} ({reason}); it lies whole in `{self.directory}`. The "
            "next start of this run uploads it, and so does `keepfast upload`"
        )

    _reason = ""

    def _uploaded(self, *, ending: bool) -> bool:
        with self._changed:
            self._asked += 1
            mine, self._ending = self._asked, self._ending or ending
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= mine or bool(self._lost), self._patience)
            return self._done >= mine

    def _proceed(self) -> None:
        if self._lost:
            raise DirectoryError(self._lost)
        if self._ended:
            raise DirectoryError("closed")

    def _run(self) -> None:
        me, pause, failed_at = threading.current_thread(), 0.0, 0.0
        while self._thread is me and not self._ended:
            asked, ending = self._next(pause, failed_at)
            if self._ended or self._thread is not me:
                return
            if self._pass(everything=asked > self._done, ending=ending):
                pause, self._passed_at = 0.0, time.monotonic()
                with self._changed:
                    self._done = asked
                    self._changed.notify_all()
                if ending:
                    return
            elif self._lost:
                return
            else:
                pause, failed_at = min(2 * pause or _FIRST_PAUSE, _LONGEST_PAUSE), time.monotonic()

    def _next(self, pause: float, failed_at: float) -> tuple[int, bool]:
        """Return when it is time for another pass: what was asked for till then, and whether it is to be the last."""
        rest = pause * random.uniform(0.8, 1.2)  # noqa: S311  (many runs begin to fail at one moment)
        with self._changed:
            while (left := self._left(rest, failed_at)) > 0:
                self._changed.wait(left)
            self._news = False
            return self._asked, self._ending

    def _left(self, rest: float, failed_at: float) -> float:
        """Return how many seconds are left to the next pass, given how long to rest after the last, which failed."""
        awaited = self._asked > self._done
        if self._ended or (not rest and (self._news or awaited)):
            return 0.0
        if not rest:
            return self._passed_at + self._interval - time.monotonic()
        return failed_at + (min(rest, _LONGEST_AWAITED_PAUSE) if awaited else rest) - time.monotonic()

    def _pass(self, *, everything: bool, ending: bool) -> bool:
        """Upload what is new; say whether all of it went up."""
        try:
            self._renew()
            self._uploading.once(everything=everything)
            self._after(ending)
            if ending:
                self._record.is_complete = True
                self._record.store(self.directory)
                with contextlib.suppress(OSError):  # it lapses by itself
                    self._lease.release()
        except Exception as error:  # noqa: BLE001  (whatever a store raises, the run goes on; it is told)
            if not self._ended:
                self._reason = str(error) or type(error).__name__
                self._tally.count(_FAILED, self._reason)
            return False
        return True

    def _stay_alive(self) -> None:
        """Renew the lease, however long an upload takes."""
        thread = self._thread
        while thread is not None and thread.is_alive() and not self._ended and not self._lost:
            with contextlib.suppress(Exception):  # the upload tells of it
                self._renew()
            thread.join(_ALIVE_SECONDS)

    def _renew(self) -> None:
        """Renew the lease where it is time to, and take note where another has it."""
        try:
            self._lease.renew()
        except DirectoryError as error:
            with self._changed:
                self._lost = str(error)
                self._changed.notify_all()
            raise


def _all_failures(counts: Mapping[str, Count]) -> str:
    count = counts.get(_FAILED, Count())
    if count.number <= 1:
        return ""
    return f"{count.number} uploads failed in all, and were tried again; the last reason: {count.last}"


def _close_all() -> None:
    for mirror in list(_MIRRORS):
        mirror.hurry()
        mirror.close()


at_exit(_close_all)  # named before any run's own end, and so done after it
