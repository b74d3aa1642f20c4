"""One owner for a run's directory: one process writes there, and one experiment in it."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import json
import os
import socket
import weakref
from pathlib import Path
from typing import Any, BinaryIO, final

from keepfast._system.disk.special import content_of, is_plain_file, require_own
from keepfast._system.finishing import undone_by
from keepfast._system.lock import holding
from keepfast.errors import DirectoryError

LOCK = ".keepfast.lock"
"""The file that stands for the lock, in the run's directory; it tells who holds it."""

_TRIES = 100
"""How often a lock file is opened anew that was removed between being opened and being locked."""


@final
class Ownership:
    """The lock of a run's directory, held until it is released, this object is gone, or the process ends.

    Readers take no lock. A process that was forked from the owner has no part in it, so that an owner that is killed
    frees the directory at once, whatever children of it live on.

    Args:
        directory: the run's directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._held = contextlib.ExitStack()
        weakref.finalize(self, self._held.close).atexit = False

    def take(self) -> None:
        """Take the lock, or say who has it.

        Where the file system has no locks, that is told once (see `holding`), and nothing keeps others out.

        Raises:
            DirectoryError: if another process has it, or another experiment of this one; names process, host and start.
            OSError: if the lock file cannot be made.
        """
        if not self._try():
            gc.collect()  # an experiment that nobody has any more may still wait for that
            if not self._try():
                raise DirectoryError(_taken(self.directory, _read(self.directory / LOCK)))

    def _try(self) -> bool:
        path = self.directory / LOCK
        require_own(path)
        for _ in range(_TRIES):
            with contextlib.ExitStack() as opening:
                file = opening.enter_context(path.open("a+b", buffering=0))
                try:
                    locked = opening.enter_context(holding(file.fileno(), wait=False))
                except BlockingIOError:
                    return False
                if locked and not _is_at(file, path):
                    continue  # whoever had it removed it meanwhile
                _sign(file)
                opening.callback(_remove, file, path, os.getpid())
                self._held.enter_context(opening.pop_all())
                return True
        return False

    def unless_it_fails(self) -> contextlib.AbstractContextManager[None]:
        """Release the lock where an error leaves the context."""
        return undone_by(self.release)

    def release(self) -> None:
        """Let others have the directory; twice is fine."""
        self._held.close()


def is_owned(directory: Path) -> bool:
    """Say whether an experiment that is not closed writes in a directory, in whatever process.

    Where there is no telling, as on a file system without locks, none does.
    """
    if not is_plain_file(path := directory / LOCK):  # a pipe would be waited for
        return False
    try:
        with path.open("rb") as file, holding(file.fileno(), wait=False):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def in_forked_child(owner: int) -> str:
    """Return the end of an error about a call in a process that was forked from the owner."""
    return (
        f"in process {os.getpid()}, which was forked from {owner}, the only one that writes this run; hand that one "
        "what is to be kept, or make an experiment with another `experiment_name` after the fork"
    )


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Say whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sign(file: BinaryIO) -> None:
    """Write into a lock file who holds it."""
    start = dt.datetime.now().astimezone().isoformat(timespec="seconds")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "start": start}
    with contextlib.suppress(OSError):  # a full disk: it is locked nevertheless
        file.truncate(0)
        file.write(json.dumps(who).encode())


def _remove(file: BinaryIO, path: Path, process: int) -> None:
    with contextlib.suppress(OSError):
        if os.getpid() == process and _is_at(file, path):
            path.unlink()


def _read(path: Path) -> dict[str, Any]:
    """Return what a lock file says, nothing where it does not say it yet."""
    try:
        said = json.loads(content_of(path))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _taken(directory: Path, said: dict[str, Any]) -> str:
    process, host, start = (said.get(key, "unknown") for key in ("pid", "host", "start"))
    if (process, host) == (os.getpid(), socket.gethostname()):
        return (
            f"`{directory}` is in use by another experiment of this very process ({process} on {host}, since {start}); "
            "close that first, or give this one another `experiment_name`"
        )
    return (
        f"`{directory}` is in use by process {process} on {host}, since {start}, and two runs that write into one "
        "directory would lose what the other writes. Wait for it to end, or end it; or give this run another "
        "`experiment_name`. Where both are ranks of one distributed run, make the experiment after the process group, "
        'or set `distributed` to {"rank": ..., "world_size": ...}'
    )
