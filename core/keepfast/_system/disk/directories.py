"""Directories and names that survive a loss of power, as far as the file system lets them."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from keepfast._system.disk.optional import attempt
from keepfast.errors import InvalidValue, as_given


@final
@dataclass(frozen=True)
class Durable:
    """What whoever filled a directory may return.

    Attributes:
        names: the files in and below it that were fsynced, and need not be again.
    """

    names: frozenset[str]


def taken(path: str | os.PathLike[str]) -> Path:
    """Return a path that leads to the same place when the working directory changes; ``~`` is the user's own."""
    return Path(path).expanduser().absolute()


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it that are missing; each is durable under its name when this returns.

    Raises:
        OSError: if the operating system refused.
    """
    missing = []
    above = directory
    while not above.exists():
        missing.append(above)
        above = above.parent
    directory.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_directory(made.parent)


def sync_directory(directory: Path) -> None:
    """Make renames and removals in a directory durable, where its file system can.

    Raises:
        OSError: if the operating system refused.
    """
    if os.name != "nt":  # directories cannot be opened there
        attempt("fsync of directories", lambda: _sync(directory), lambda: None)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(descriptor: int) -> None:
    """Make what was written into an open file durable, where its file system can.

    Raises:
        OSError: if the operating system refused.
    """
    attempt("fsync of files", lambda: os.fsync(descriptor), lambda: None)


def sync_named(file: Path) -> None:
    """Make what was written into a file durable, as `sync_file` does.

    Raises:
        OSError: if the operating system refused.
    """
    with file.open("r+b") as opened:
        sync_file(opened.fileno())


def move_directory(directory: Path, target: Path) -> None:
    """Give a directory another name, in one step where the file system can.

    Raises:
        OSError: if the operating system refused: with ENOTEMPTY or EEXIST where another one has that name.
    """
    attempt(
        "renaming of directories",
        lambda: _rename(directory, target),
        lambda: _move_files(directory, target),
        also=(errno.EXDEV,),
    )


def _rename(directory: Path, target: Path) -> None:
    directory.rename(target)


def _move_files(directory: Path, target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()  # an empty one gives way, as it does to a rename
    target.mkdir()
    for child in sorted(directory.iterdir()):
        if child.is_dir() and not child.is_symlink():
            _move_files(child, target / child.name)
        else:
            os.replace(child, target / child.name)  # noqa: PTH105  (fault injection in the tests replaces os.replace)
    sync_directory(target)
    directory.rmdir()


def link_or_copy(file: str | Path, other: str | Path) -> None:
    """Give a file another name, or a durable copy where its file system has no hard links.

    Raises:
        OSError: if the operating system refused; there is nothing of the other name then, unless there was before.
    """
    source, target = Path(file), Path(other)
    attempt(
        "hard links", lambda: os.link(source, target), lambda: _copy(source, target), also=(errno.EXDEV, errno.EMLINK)
    )


def _copy(file: Path, other: Path) -> None:
    with other.open("xb") as copy:
        try:
            with file.open("rb") as content:
                shutil.copyfileobj(content, copy)
            copy.flush()
            sync_file(copy.fileno())
        except BaseException:
            other.unlink(missing_ok=True)
            raise
    shutil.copystat(file, other)


_LONGEST_NAME = 255
"""How many bytes the name of a file or directory may have."""


def path_of(given: str | os.PathLike[str], *, longest: int | None = _LONGEST_NAME) -> Path:
    """Return the path that users give.

    Args:
        given: text, or a path of pathlib.
        longest: how many bytes each part of it may have; None leaves that to the operating system.

    Raises:
        InvalidValue: if it is none, or one that no file can have; says why.
    """
    try:
        text = os.fspath(given)
    except Exception:  # noqa: BLE001  (whatever it raises, it is no path)
        text = None
    if not isinstance(text, str):
        raise InvalidValue(
            f"a path is {as_given(given)} ({type(given).__qualname__}); allowed: text, or a path of pathlib"
        )
    text = str.__str__(text)  # whatever a class of its own makes of it
    if reason := _no_path(text, longest):
        raise InvalidValue(f"`{text!r:.100}` is no path: {reason}")
    return Path(text)


def file_of(given: str | os.PathLike[str]) -> Path:
    """Return the path of a file that users want to be written, however long its name is.

    Raises:
        InvalidValue: if it is no path, or ends with no name.
    """
    path = path_of(given, longest=None)
    if not path.name:
        raise InvalidValue(f"`path` is {str(path)!r}, which is no name of a file")
    return path


def _no_path(text: str, most: int | None) -> str:
    """Return why there can be no file at a path, "" where there can."""
    if "\0" in text:
        return "it holds NUL"
    try:
        longest = max((len(os.fsencode(part)) for part in text.split("/")), default=0)
    except UnicodeEncodeError:
        return "it holds half of a character, which no file system can name"
    return "" if most is None or longest <= most else f"a part of it has {longest} bytes, and {most} are allowed"


def is_link_of(path: Path, other: Path) -> bool:
    """Say whether two names are of one file, or of two directories that hold the same files under the same names."""
    return _agree(path, other, Path.samefile)


def is_copy_of(path: Path, other: Path) -> bool:
    """Say whether two files, or two directories under the same names, hold the same bytes, as `link` leaves them."""
    return _agree(path, other, lambda one, two: one.samefile(two) or filecmp.cmp(one, two, shallow=False))


def _agree(path: Path, other: Path, same: Callable[[Path, Path], bool]) -> bool:
    if path.is_dir() and other.is_dir():
        own, theirs = ({file.relative_to(root): file for file in files_of(root)} for root in (path, other))
        return own.keys() == theirs.keys() and all(same(file, theirs[name]) for name, file in own.items())
    return path.is_file() and other.is_file() and same(path, other)


def names_in(directory: Path) -> set[str]:
    """Return the names of what is in a directory, where there is one; links that lead nowhere are left out."""
    try:
        with os.scandir(directory) as found:
            return {each.name for each in found if not each.is_symlink() or os.path.exists(each)}  # noqa: PTH110
    except (FileNotFoundError, NotADirectoryError):
        return set()


def files_of(path: Path) -> list[Path]:
    """Return a file itself, or all files in and below a directory, in the order of their names."""
    return sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in and below a directory."""
    return sum(file.stat().st_size for file in files_of(path))
