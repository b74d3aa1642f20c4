"""What has the name of a file and is none: pipes, sockets and devices, which are neither read nor replaced."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from keepfast.errors import Unreadable

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def special_kind(path: Path) -> str:
    """Return what a path is that is neither a file nor a directory; "" for those, and where there is nothing."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "")
    except (OSError, ValueError):
        return ""


def content_of(path: Path) -> bytes:
    """Return the content of a file, so much of it as the system says there is: files of its own have no end.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(os.fstat(file.fileno()).st_size)


def require_replaceable(path: Path) -> None:
    """Check that what is to get a name does not take the place of a pipe, a socket or a device.

    Raises:
        OSError: if it would.
    """
    if kind := special_kind(path):
        raise OSError(errno.EEXIST, f"it is {kind}, and only files are replaced; give another path")


def require_file(path: Path) -> None:
    """Check that a path is not of a pipe, a socket or a device, which might never come to an end.

    Raises:
        Unreadable: if it is.
    """
    if kind := special_kind(path):
        raise Unreadable(f"`{path}` is {kind}, which Keepfast does not read; copy what comes from it into a file")
