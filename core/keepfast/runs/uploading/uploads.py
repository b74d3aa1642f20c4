"""The uploading of one run, where its directory is the spool of one on an object store; else nothing."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from keepfast._system.disk.directories import make_directory
from keepfast._system.finishing import undone_by
from keepfast._system.remote.addresses import Address
from keepfast._system.remote.elsewhere import bring
from keepfast._system.remote.mirror import Mirror
from keepfast._system.remote.spool import address_at, claim, clean, spool, within
from keepfast._system.remote.store import told_by_name
from keepfast.checkpoints.index import CHECKPOINTS, read_index
from keepfast.runs.processes.ownership import is_owned
from keepfast.runs.uploading.layout import LAYOUT
from keepfast.runs.uploading.listing import Line, unfinished

_INTERVAL, _PATIENCE, _KEEP_BEST = "upload_interval", "upload_patience", "keep_best"


def _place(directory: Path, address: Address) -> tuple[Address, str]:
    """Return the directory of runs that a run lies in, and its name there."""
    name = directory.relative_to(spool()).as_posix().partition("/")[2]
    return Address(address.scheme, address.place.removesuffix(f"/{name}")), name


@final
class Uploads:
    """Has what a run keeps uploaded.

    Args:
        directory: the run's directory.
        settings: the experiment's settings.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        address = address_at(directory)
        self._mirror: Mirror | None = None
        if address is not None:
            self._mirror = Mirror(
                directory,
                address,
                LAYOUT,
                interval=settings[_INTERVAL],
                patience=settings[_PATIENCE],
                after=Line(*_place(directory, address), directory).keep,
            )
            weakref.finalize(self, self._mirror.let_go).atexit = False

    @property
    def are_under_way(self) -> bool:
        """Say whether there is anything to upload, and somewhere to."""
        return self._mirror is not None

    def of_another(self, directory: Path) -> Uploads:
        """Return the uploads of another run's directory."""
        return Uploads(directory, self._settings)

    def take(self) -> None:
        """Own the run on the store too, and have here what it goes on with.

        Raises:
            DirectoryError: if another machine owns it.
            RemoteError: if the store refuses, or cannot be reached for a minute.
        """
        if self._mirror is None:
            return
        self._mirror.take()
        if self._settings[_KEEP_BEST] > 1:  # the first of them gets another name when one is better
            checkpoints = self._mirror.directory / CHECKPOINTS
            best = [row for row in read_index(checkpoints) if row.best]
            for name in {name for row in best for name in (*row.names, *row.segments)}:
                bring(checkpoints / name)

    def fetch_unfinished(self, agent: str, timesteps: int | None) -> None:
        """Have here the newest run beside this one, of an agent, that did not reach its end and has no owner."""
        if self._mirror is None:
            return
        runs, own = _place(self._mirror.directory, self._mirror.address)
        found = next(unfinished(runs, own, agent, timesteps), None)
        if found is not None:
            directory = within(claim(runs) / found)
            with told_by_name(runs / found):
                make_directory(directory)
            self.of_another(directory).look()

    def look(self) -> None:
        """Have here what the run goes on with, which another process owns.

        Raises:
            RemoteError: as `take`.
        """
        if self._mirror is not None:
            self._mirror.look(is_owned)

    def unless_it_fails(self) -> contextlib.AbstractContextManager[None]:
        """Let others have the run where an error leaves the context."""
        return undone_by(self.release)

    def start(self) -> None:
        """Begin to upload, and to remove what is not needed any more of what was uploaded before."""
        if self._mirror is not None:
            self._mirror.start()
            threading.Thread(target=clean, args=(is_owned,), name="keepfast-spool", daemon=True).start()

    def wake(self, _durable: object = None) -> None:
        """Be told that a checkpoint is durable."""
        self._do(Mirror.wake)

    def wait(self) -> None:
        """Return when all of it is uploaded; see `Mirror.wait`."""
        self._do(Mirror.tell)
        self._do(Mirror.wait)

    def tell(self) -> None:
        """Tell of uploads that failed, the first time there is one."""
        self._do(Mirror.tell)

    def close(self) -> None:
        """Upload the rest; see `Mirror.close`."""
        self._do(Mirror.close)

    def release(self) -> None:
        """Let others have the run, of which nothing more is uploaded."""
        self._do(Mirror.release)

    def _do(self, action: Callable[[Mirror], None]) -> None:
        if self._mirror is not None:
            action(self._mirror)
