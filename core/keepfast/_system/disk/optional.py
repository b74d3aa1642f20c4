"""Features that a file system may lack: each has something that stands in for it, and is told once, by name."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Literal, TypeVar

from keepfast._system.lifetimes import at_exit
from keepfast._system.tally import Count, Tally

Feature = Literal[
    "fsync of directories",
    "fsync of files",
    "hard links",
    "locks",
    "renaming of directories",
    "memory maps",
    "reserved space",
    "file modes",
]

INSTEAD: dict[Feature, str] = {
    "fsync of directories": "a loss of power may undo the latest new names there",
    "fsync of files": "a loss of power may lose what was written last",
    "hard links": "files are copied in their place",
    "locks": "let one process at a time write there, since none can wait for another",
    "renaming of directories": "their files are moved one by one, which a kill may break off",
    "memory maps": "files are read into memory in their place",
    "reserved space": "a disk that is full is noticed only where it is written to",
    "file modes": "a file that is replaced gets the mode of a new one",
}
"""What happens where a feature is lacking."""

LACKS = frozenset(
    {
        errno.EINVAL,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.EACCES,
        errno.EPERM,
        errno.ENOTTY,
        errno.ENODEV,
        errno.EBADF,
    }
)
"""What systems answer where a file system lacks a feature; a disk that is full or broken answers otherwise."""

T = TypeVar("T")

lacking = Tally()


def attempt(feature: Feature, use: Callable[[], T], instead: Callable[[], T], *, also: tuple[int, ...] = ()) -> T:
    """Use a feature, or do what stands in for it where the file system lacks it.

    Args:
        feature: its name.
        use: uses it.
        instead: stands in for it.
        also: what the system answers for this feature too.

    Raises:
        OSError: what either raises for other reasons.
    """
    try:
        return use()
    except OSError as error:
        if error.errno not in LACKS and error.errno not in also:
            raise
        note_lacking(feature, error)
        return instead()


def note_lacking(feature: Feature, error: OSError) -> None:
    """Take note that a feature is lacking; any thread may. It is told by whoever calls `tell_lacking` next."""
    lacking.count(feature, error.strerror or str(error))


def tell_lacking() -> None:
    """Warn of each lacking feature that was not told yet; costs next to nothing where there is none."""
    lacking.tell(_message)


def _message(name: str, count: Count) -> str:
    instead = next(instead for feature, instead in INSTEAD.items() if feature == name)
    return f"the file system lacks {name} ({count.first}): {instead}"


at_exit(tell_lacking)
