"""Advisory locks on open files, which end with their process however it ends; `filelock` takes them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor, unlock_descriptor

from keepfast._system.disk.optional import note_lacking
from keepfast._system.lifetimes import in_child

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF}
"""What file systems without locks answer, and NFS for a directory, as it locks only what is open for writing."""

_LOOK_AGAIN = 0.01
"""How many seconds pass between two looks at a lock that another holds."""

_held: set[int] = set()


@contextlib.contextmanager
def holding(descriptor: int, *, wait: bool) -> Iterator[bool]:
    """Lock an open file or directory against whoever opened it otherwise, in this process or another.

    It is locked until the context is left or the process ends. Children forked meanwhile have no part in it: what they
    have of the open file is nothing, so that a lock ends with its process although children live on.

    Args:
        descriptor: the open file.
        wait: whether to wait for another holder.

    Yields:
        Whether it is locked; False where its file system has no locks, since a checkpoint unlocked is better than none.

    Raises:
        BlockingIOError: if there is another holder and `wait` does not hold.
    """
    _held.add(descriptor)  # before it is locked: a fork may come at any moment
    try:
        yield _lock(descriptor, wait=wait)
    finally:
        with contextlib.suppress(OSError):
            unlock_descriptor(descriptor)
        _held.discard(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    try:
        locked = lock_descriptor(descriptor, blocking=wait, poll_interval=_LOOK_AGAIN)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            if error.errno != errno.EBADF:
                note_lacking("locks", error)
            return False
        raise
    if not locked:
        raise BlockingIOError(errno.EWOULDBLOCK, "locked by another")
    return True


@contextlib.contextmanager
def holding_file(path: Path) -> Iterator[None]:
    """Hold the lock that a file stands for, which is made where it is not there and stays, as others may wait for it.

    Where it can be neither made nor opened, as in a directory that cannot be written in, nothing is locked.

    Raises:
        FileNotFoundError: if there is no such directory.
    """
    file = _opened(path)
    if file is None:
        yield
        return
    with file, holding(file.fileno(), wait=True):
        yield


def _opened(path: Path) -> BinaryIO | None:
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
