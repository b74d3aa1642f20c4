"""Advisory locks on open files, which end with their process however it ends; `filelock` takes them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor, unlock_descriptor

from keepfast._system.disk.optional import note_lacking
from keepfast._system.disk.special import is_plain_file
from keepfast._system.lifetimes import in_child
from keepfast._system.warnings import announce
from keepfast.errors import DirectoryError

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF}
"""What file systems without locks answer, and NFS for a directory, as it locks only what is open for writing."""

_LOOK_AGAIN = 0.01
"""How many seconds pass between two looks at a lock that another holds."""

_TELL_SECONDS = 5.0
"""After how many seconds of waiting it is told who is waited for."""

_GIVE_UP_SECONDS = 120.0
"""After how many seconds of waiting it is an error."""

_held: set[int] = set()


@contextlib.contextmanager
def holding(descriptor: int, *, wait: bool, path: Path | None = None) -> Iterator[bool]:
    """Lock an open file or directory against whoever opened it otherwise, in this process or another.

    It is locked until the context is left or the process ends. Children forked meanwhile have no part in it: what they
    have of the open file is nothing, so that a lock ends with its process although children live on.

    Args:
        descriptor: the open file.
        wait: whether to wait for another holder; who that is is told when it takes long.
        path: the name of the file, for who waits.

    Yields:
        Whether it is locked; False where its file system has no locks, since a checkpoint unlocked is better than none.

    Raises:
        BlockingIOError: if there is another holder and `wait` does not hold.
        DirectoryError: if another holds it for minutes; names the file and the process.
    """
    _held.add(descriptor)  # before it is locked: a fork may come at any moment
    try:
        yield _lock(descriptor, path or Path(f"/dev/fd/{descriptor}"), wait=wait)
    finally:
        with contextlib.suppress(OSError):
            unlock_descriptor(descriptor)
        _held.discard(descriptor)


def _lock(descriptor: int, path: Path, *, wait: bool) -> bool:
    try:
        locked = lock_descriptor(descriptor, blocking=False)
        if not locked and wait:
            _wait(descriptor, path)
            locked = True
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            if error.errno != errno.EBADF:
                note_lacking("locks", error)
            return False
        raise
    if not locked:
        raise BlockingIOError(errno.EWOULDBLOCK, "locked by another")
    return True


def _wait(descriptor: int, path: Path) -> None:
    """Return when a lock that another holds is ours."""
    began, told = time.monotonic(), False
    while not lock_descriptor(descriptor, blocking=False):
        waited = time.monotonic() - began
        if waited >= _GIVE_UP_SECONDS:
            raise DirectoryError(
                f"`{path}` is locked by {_holder(descriptor)}, and was for {waited:.0f} seconds; try again when that "
                "is done, or end it if it hangs"
            )
        if waited >= _TELL_SECONDS and not told:
            told = True
            announce(
                f"waiting for `{path}`, which {_holder(descriptor)} has locked; after {_GIVE_UP_SECONDS:g} seconds "
                "this is an error"
            )
        time.sleep(_LOOK_AGAIN)


def _holder(descriptor: int) -> str:
    """Return who holds a lock, in words; Linux tells of processes on the same machine."""
    about = os.fstat(descriptor)
    try:
        rows = [row.split() for row in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        rows = []
    holders = {row[4] for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == str(about.st_ino)}
    if holders == {str(os.getpid())}:
        return "another thread of this process"
    known = sorted(holder for holder in holders if holder.isdigit() and holder != "0")
    return f"process {' or '.join(known)}" if known else "another process"


@contextlib.contextmanager
def holding_file(path: Path) -> Iterator[None]:
    """Hold the lock that a file stands for, which is made where it is not there and stays, as others may wait for it.

    Where it can be neither made nor opened, as in a directory that cannot be written in, nothing is locked.

    Raises:
        FileNotFoundError: if there is no such directory.
        DirectoryError: if another holds it for minutes.
    """
    file = _opened(path)
    if file is None:
        yield
        return
    with file, holding(file.fileno(), wait=True, path=path):
        yield


def _opened(path: Path) -> BinaryIO | None:
    if path.is_symlink() or (path.exists() and not is_plain_file(path)):
        return None  # a link would have a file made elsewhere, and a pipe would be waited for
    try:
        return path.open("ab")
    except FileNotFoundError:
        raise
    except OSError:
        with contextlib.suppress(OSError):
            return path.open("rb")  # another user's
    return None


def _part_from_parent() -> None:
    if not _held:
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in _held:
        os.dup2(nothing, descriptor, inheritable=False)  # to unlock it here would unlock it for the parent
    os.close(nothing)
    _held.clear()


in_child(_part_from_parent)
