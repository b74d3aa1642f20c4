"""Tries in a directory what a run will do there, and how long it takes."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from filelock import lock_descriptor, unlock_descriptor

from keepfast._system.disk.directories import sync_directory
from keepfast.errors import DirectoryError

_BYTES = 16 * 2**20
"""How much is written: enough to tell a slow disk, and little enough for a slow one."""

_LONGEST_NAME = 255


@final
@dataclass(frozen=True)
class Trial:
    """What came of one thing that was tried.

    Attributes:
        what: what was tried.
        needed: whether a run cannot do without it.
        seconds: how long it took.
        problem: what the operating system answered where it failed, or None.
    """

    what: str
    needed: bool
    seconds: float
    problem: str | None


def try_directory(directory: Path) -> Iterator[Trial]:
    """Try what runs do in a directory, or in the nearest one above it that is there; nothing is left behind.

    Raises:
        DirectoryError: if no file can be made there.
    """
    place = next((path for path in (directory, *directory.absolute().parents) if path.is_dir()), directory)
    try:
        made = Path(tempfile.mkdtemp(prefix=".keepfast-doctor-", dir=place))
    except OSError as error:
        raise DirectoryError(
            f"nothing can be written in `{place}`: {error.strerror or error}; give a directory that is yours"
        ) from error
    try:
        for what, needed, trial in _TRIALS:
            yield _outcome(what, needed, trial, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _outcome(what: str, needed: bool, trial: Callable[[Path], None], directory: Path) -> Trial:
    began = time.perf_counter()
    problem = None
    try:
        trial(directory)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Trial(what, needed, time.perf_counter() - began, problem)


def _write(directory: Path) -> None:
    with (directory / "file").open("wb") as file:
        file.write(bytes(_BYTES))


def _sync(directory: Path) -> None:
    with (directory / "file").open("rb+") as file:
        os.fsync(file.fileno())


def _rename(directory: Path) -> None:
    (directory / "new").write_bytes(b"new")
    (directory / "old").write_bytes(b"old")
    (directory / "new").replace(directory / "old")


def _sync_directory(directory: Path) -> None:
    sync_directory(directory)


def _lock(directory: Path) -> None:
    with (directory / "lock").open("ab") as file:
        if not lock_descriptor(file.fileno(), blocking=False):
            raise OSError("another process holds a lock that is new")
        unlock_descriptor(file.fileno())


def _link(directory: Path) -> None:
    (directory / "link").hardlink_to(directory / "file")


def _map(directory: Path) -> None:
    with (directory / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        bytes(mapped[:1])


def _long_name(directory: Path) -> None:
    (directory / ("n" * _LONGEST_NAME)).touch()


_TRIALS: tuple[tuple[str, bool, Callable[[Path], None]], ...] = (
    (f"write {_BYTES // 2**20} MB", True, _write),
    ("have them on disk (fsync)", False, _sync),
    ("rename over a file", True, _rename),
    ("have a name on disk", False, _sync_directory),
    ("lock a file", False, _lock),
    ("second name of a file", False, _link),
    ("map a file into memory", False, _map),
    (f"name of {_LONGEST_NAME} bytes", False, _long_name),
)
"""What is tried, in this order; what is not needed has something in its place."""
