"""What has the name of a file and is none: pipes, sockets, devices, files of the kernel; neither read nor replaced."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path

from keepfast.errors import Unreadable

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}

_OF_THE_KERNEL = ("/proc", "/sys", "/sys/kernel/debug", "/sys/kernel/tracing")
"""Where Linux shows what it knows, as files: some, like /proc/kmsg, never end, and are waited for."""


def special_kind(path: Path) -> str:
    """Return what a path is that is neither a file nor a directory; "" for those, and where there is nothing."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ""
    if stat.S_ISREG(found.st_mode):
        return "a file of the kernel" if _is_of_the_kernel(found) else ""
    return _KINDS.get(stat.S_IFMT(found.st_mode), "")


def is_plain_file(path: Path) -> bool:
    """Say whether a path is of a file that has an end; a link to one is one too."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and not _is_of_the_kernel(found)


def _is_of_the_kernel(found: os.stat_result) -> bool:
    """Say whether a file lies on no disk, and in a file system of the kernel."""
    if sys.platform != "linux" or found.st_blocks:
        return False
    for place in _OF_THE_KERNEL:
        with contextlib.suppress(OSError):
            if Path(place).stat().st_dev == found.st_dev:
                return Path("/").stat().st_dev != found.st_dev  # a directory of that name, where nothing is mounted
    return False


def content_of(path: Path) -> bytes:
    """Return the content of a file, so much of it as the system says there is: files of its own have no end.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(os.fstat(file.fileno()).st_size)


def require_replaceable(path: Path) -> None:
    """Check that what is to get a name does not take the place of a pipe, a socket, a device or a file of the kernel.

    Raises:
        OSError: if it would.
    """
    if kind := special_kind(path):
        raise OSError(errno.EEXIST, f"it is {kind}, and only files are replaced; give another path")


def require_own(path: Path) -> None:
    """Check that where a file of ours belongs there is no pipe, socket, device or file of the kernel, and no link.

    What a link leads to is somebody else's: whoever gave the directory away may have chosen it.

    Raises:
        OSError: if there is.
    """
    if kind := special_kind(path):
        raise OSError(errno.EEXIST, f"`{path}` is {kind}, where a file of the run belongs; remove it")
    if path.is_symlink():
        raise OSError(errno.EEXIST, f"`{path}` is a symbolic link, where a file of the run belongs; remove it")


def leads_away(path: Path) -> bool:
    """Say whether a path is a symbolic link to what lies neither in its directory nor below."""
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(path.parent))


def require_file(path: Path) -> None:
    """Check that a path is not of a pipe, a socket, a device or a file of the kernel, which might never come to an end.

    Raises:
        Unreadable: if it is.
    """
    if kind := special_kind(path):
        raise Unreadable(f"`{path}` is {kind}, which Keepfast does not read; copy what comes from it into a file")
