"""Files and directories that are complete or absent: temporary name, fsync, rename, fsync of the parent."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, final

from keepfast._system.arguments.guarding import guarded
from keepfast._system.disk.checksum import Summed
from keepfast._system.disk.directories import (
    Durable,
    file_of,
    link_or_copy,
    make_directory,
    move_directory,
    sync_directory,
    sync_file,
    sync_named,
)
from keepfast._system.disk.optional import attempt
from keepfast._system.disk.sharing import Linked
from keepfast._system.disk.special import require_replaceable
from keepfast._system.lock import holding
from keepfast.errors import InvalidValue, WriteFailed, as_given

_SUFFIX = ".keepfast-tmp"
_OLD_SUFFIX = ".keepfast-old"
"""Of a directory that another one is just about to replace."""

_AMPLE = 100
"""How many bytes a hidden name may have, however short the name it is made of."""

_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST}

Write = Callable[[BinaryIO], object]
"""Writes the content of a file, which it is given open: readable, writable and seekable; may return it `Summed`."""


@final
@dataclass(frozen=True)
class Filling:
    """What becomes a directory.

    Attributes:
        fill: gets the path of an empty directory and writes files into it, and into directories below it; may return
            which of them are `Durable`.
        parts: patterns of the names in it. A directory of that name that was there before is replaced only if all it
            holds is of these names, or of names that the new one has.
    """

    fill: Callable[[Path], object]
    parts: Sequence[str] = ()


@final
@dataclass(frozen=True)
class Unnamed:
    """A file or a directory that is whole and durable, and has no final name yet.

    Attributes:
        path: where it is.
        size: its size in bytes, that of a directory being the size of all files in it.
        summed: what it was written with, where that is known.
    """

    path: Path
    size: int
    summed: Summed | None = None


Content = Write | Filling | Linked
"""What writes a file, fills a directory, or gives a file that is there another name."""


@guarded
def commit(path: Path, write: Write) -> int:
    """Write a file so that its final name shows the whole of it or what was there before.

    The bytes go to a temporary file in the same directory and are fsynced; then the file is renamed over `path` and
    the directory fsynced, so that the rename itself survives a power loss. When this returns, the file is durable.

    Args:
        path: the final name.
        write: gets the open file, readable, writable and seekable, and writes the content.

    Returns:
        The size of the file in bytes.

    Raises:
        InvalidValue: if the path is one that no file can have, or `write` is no function.
        WriteFailed: if the operating system refused any step. What was at `path` before is untouched, unless only the
            last step failed, the fsync of the directory: then the whole new file is there, and the error says so.
    """
    path = file_of(path)
    if not callable(write):
        raise InvalidValue(f"`write` is {as_given(write)}; allowed: a function that is given the open file")
    return commit_together({path: write})[path]


def commit_together(
    contents: Mapping[Path, Content],
    about: Callable[[Mapping[Path, Unnamed]], Mapping[Path, Content]] | None = None,
    *,
    durable: bool = True,
    follow: bool = True,
    before: Callable[[Path], object] = lambda _: None,
) -> dict[Path, int]:
    """Write several files or directories; each is renamed only once all are durable under temporary names.

    Args:
        contents: what writes each, by its final name; they are renamed in this order.
        about: gets each under its temporary name, by its final one, and returns what else is to be written, as an
            index of them; it is renamed behind them.
        durable: whether the directories are fsynced, without which a power loss may undo any of the renames.
        follow: whether what a symbolic link of such a name points at is replaced, rather than the link itself.
        before: is given each name right before the new one gets it.

    Returns:
        The size of each in bytes, that of a directory being the size of all files in it.

    Raises:
        WriteFailed: as for `commit` and `commit_directory`; when writing any of them failed, none was renamed.
    """
    path, written, left = next(iter(contents)), dict[Path, tuple[Path, Unnamed]](), dict(contents)
    try:
        with contextlib.ExitStack() as stack:
            while left:
                for path, content in left.items():
                    target = _written_to(path, follow=follow)
                    make_directory(target.parent)
                    written[path] = (target, stack.enter_context(_written(target, content)))
                unnamed = {path: part for path, (_, part) in written.items()}
                left, about = dict(about(unnamed) if about else {}), None
                contents = {**contents, **left}
            for path, (target, part) in written.items():
                before(target)
                _put_in_place(part.path, target, contents[path])
    except OSError as error:
        raise WriteFailed(f"cannot write `{path}`: {_reason(error)}; what was there before is untouched") from error
    for target in {target.parent: target for target, _ in written.values()}.values() if durable else ():
        make_durable(target)
    return {path: part.size for path, (_, part) in written.items()}


def commit_own(path: Path, write: Write) -> int:
    """Write a file of a run, as `commit` does, that belongs where it is: a symbolic link of its name is replaced.

    Whoever gave the directory away may have had it lead anywhere.

    Raises:
        WriteFailed: as for `commit`.
    """
    return commit_together({path: write}, follow=False)[path]


def _written_to(path: Path, *, follow: bool) -> Path:
    """Return where the bytes go: beside what a symbolic link points at, which is replaced in its place.

    Raises:
        OSError: if what is there is not to be replaced.
    """
    target = _followed(path) if follow else path
    require_replaceable(target)
    return target


def _followed(path: Path) -> Path:
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def commit_directory(path: Path, fill: Callable[[Path], object], parts: Sequence[str] = ()) -> int:
    """Write a directory so that its final name shows all of its files or what was there before.

    A directory that is not empty cannot be replaced in one step everywhere. The previous one gets a hidden name, and
    is removed once the new one is there; after a kill between these two renames it is whole, and `sweep` puts it back.

    Args:
        path: the final name.
        fill: gets the path of an empty directory and writes the files into it.
        parts: patterns of names that a directory which is replaced may hold beside those of the new one.

    Returns:
        The size of the files in bytes.

    Raises:
        WriteFailed: as for `commit`, and if a directory of that name holds something else.
    """
    return commit_together({path: Filling(fill, parts)})[path]


def link(path: Path, other: Path) -> None:
    """Give a file another name beside its own; of a directory, to each of its files, in another directory.

    Where the file system has no hard links, there is a copy of that name.

    Raises:
        OSError: if the operating system refused; there is nothing of the other name then.
    """
    if not path.is_dir():
        link_or_copy(path, other)
        return
    with _locked_temporary_directory(other) as temporary:
        shutil.copytree(path, temporary, copy_function=link_or_copy, dirs_exist_ok=True)
        _sync_files(temporary)
        move_directory(temporary, other)


def remove_directory(path: Path) -> None:
    """Remove a directory, if it is there; a kill leaves the whole of it under its name, or nothing but litter."""
    if path.is_symlink() or path.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "this is no directory", str(path))
    doomed = _hidden(path, secrets.token_hex(6), _SUFFIX)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(
            attempt("renaming of directories", lambda: path.rename(doomed), lambda: path, also=(errno.EXDEV,))
        )


def make_durable(path: Path) -> None:
    """Have a file that was renamed survive a power loss under its name.

    Raises:
        WriteFailed: if the operating system refused.
    """
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise WriteFailed(
            f"cannot make `{path}` durable: {_reason(error)}; it is there and whole, but a power loss may undo it"
        ) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _hidden(path: Path, token: str, suffix: str) -> Path:
    """Return a hidden name beside a path, cut where it would be longer than a name may be."""
    tail = f".{token}{suffix}"
    room = max(len(os.fsencode(path.name)), _AMPLE) - len(tail) - 1
    return path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:room])}{tail}")


def _aside(path: Path) -> Path:
    """Return where a directory that is about to be replaced goes: its name can be told from it, and sorts by age."""
    token = f"{time.time_ns():020d}"
    aside = _hidden(path, token, _OLD_SUFFIX)
    if _named(aside) == path:
        return aside
    wrapper = path.with_name(f".{token}{_OLD_SUFFIX}")  # a name too long to be made longer stays whole inside
    wrapper.mkdir()
    return wrapper / path.name


@contextlib.contextmanager
def _locked_temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    with contextlib.ExitStack() as stack:
        file, temporary = _open_locked(path, stack)
        try:
            yield file, temporary
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _open_locked(path: Path, stack: contextlib.ExitStack) -> tuple[BinaryIO, Path]:
    """Open a file that is locked until the stack is left, or a kill: so a sweep tells litter from work in progress."""
    while True:
        temporary = _hidden(path, secrets.token_hex(6), _SUFFIX)
        with contextlib.ExitStack() as opening, contextlib.suppress(BlockingIOError):
            file = opening.enter_context(temporary.open("x+b"))
            opening.enter_context(holding(file.fileno(), wait=False))
            if os.name == "nt" or os.fstat(file.fileno()).st_nlink:
                stack.enter_context(opening.pop_all())
                return file, temporary
        # swept between its creation and the lock; the next name is luckier


@contextlib.contextmanager
def _written(path: Path, content: Content) -> Iterator[Unnamed]:
    """Write a file or a directory under a temporary name; removed unless it is renamed."""
    if isinstance(content, Filling):
        with _locked_temporary_directory(path) as temporary:
            told = content.fill(temporary)
            size = _sync_files(temporary, told.names if isinstance(told, Durable) else ())
            _take_mode(temporary, path)
            yield Unnamed(temporary, size)
        return
    if isinstance(content, Linked):
        with content.linked(temporary := _hidden(path, secrets.token_hex(6), _SUFFIX), path) as is_linked:
            if is_linked:
                yield Unnamed(temporary, content.size, content.summed)
                return
        content = content.write
    with _locked_temporary(path) as (file, temporary):
        _take_mode(temporary, path)  # before there is anything in it that others were not to read
        told = content(file)
        file.flush()
        sync_file(file.fileno())
        summed = told if isinstance(told, Summed) else None
        yield Unnamed(temporary, os.fstat(file.fileno()).st_size, summed)


def _take_mode(temporary: Path, path: Path) -> None:
    """Give what is about to replace a file or a directory its mode."""
    with contextlib.suppress(FileNotFoundError):
        about = path.lstat()
        mode = stat.S_IMODE(about.st_mode)
        if not stat.S_ISLNK(about.st_mode) and mode != stat.S_IMODE(temporary.stat().st_mode):
            attempt("file modes", lambda: temporary.chmod(mode), lambda: None)


def _sync_files(directory: Path, durable: Collection[str] = ()) -> int:
    """Make all files below a directory durable under their names; return their size in bytes.

    Args:
        directory: the directory.
        durable: the files of which only the names may not be durable yet.
    """
    size = 0
    for folder, _, names in os.walk(directory, topdown=False):
        for file in (Path(folder, name) for name in names):
            if file.relative_to(directory).as_posix() not in durable:
                sync_named(file)
            size += file.stat().st_size
        sync_directory(Path(folder))
    return size


@contextlib.contextmanager
def _locked_temporary_directory(path: Path) -> Iterator[Path]:
    """Make a hidden directory beside a path, locked against `sweep`; removed unless it is renamed."""
    temporary = _hidden(path, secrets.token_hex(6), _SUFFIX)
    with contextlib.ExitStack() as stack:
        while True:
            temporary.mkdir()
            with contextlib.suppress(FileNotFoundError):  # swept between its creation and the lock
                stack.enter_context(_locked_directory(temporary))
                break
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextlib.contextmanager
def _locked_directory(path: Path) -> Iterator[None]:
    """Hold the lock of a directory.

    Raises:
        FileNotFoundError: if there is none of that name, or no longer when it could be locked.
    """
    if os.name == "nt":  # directories cannot be opened there, nor renamed while a file in them is open
        yield
        return
    descriptor = attempt("locks", lambda: os.open(path, os.O_RDONLY | os.O_DIRECTORY), lambda: None)
    if descriptor is None:
        yield
        return
    try:
        with holding(descriptor, wait=True, path=path):
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise FileNotFoundError(errno.ENOENT, "replaced by another process", str(path))
            yield
    finally:
        os.close(descriptor)


def _put_in_place(temporary: Path, path: Path, content: Content) -> None:
    """Give a file or a directory its final name, whatever other processes do to that name meanwhile."""
    if not isinstance(content, Filling):
        os.replace(temporary, path)  # noqa: PTH105  (fault injection in the tests replaces os.replace)
        return
    if path.is_symlink():  # only where it is not followed
        path.unlink(missing_ok=True)
    while not _renamed(temporary, path):
        with contextlib.suppress(FileNotFoundError):  # the one in the way is gone: try again
            if strangers := _strangers(path, temporary, content.parts):
                raise OSError(errno.ENOTEMPTY, f"a directory of that name holds `{strangers[0]}`, which would be lost")
            if _exchanged(temporary, path):
                return


def _strangers(path: Path, replacing: Path, parts: Sequence[str]) -> list[str]:
    """Return the names in a directory that neither the one that replaces it has nor a pattern fits."""
    names = {child.name for child in path.iterdir()} - {child.name for child in replacing.iterdir()}
    return sorted(name for name in names if not any(fnmatchcase(name, part) for part in parts))


def _renamed(directory: Path, path: Path) -> bool:
    """Rename a directory; says whether it could be, which a directory of that name prevents."""
    try:
        move_directory(directory, path)
    except OSError as error:
        if error.errno in _OCCUPIED:
            return False
        raise
    return True


def _exchanged(directory: Path, path: Path) -> bool:
    """Put a directory in the place of another, which is removed; says whether no other process was faster."""
    with _locked_directory(path):
        aside = _aside(path)
        move_directory(path, aside)
        try:
            done = _renamed(directory, path)
        except OSError:
            move_directory(aside, path)
            raise
        with contextlib.suppress(OSError):  # what cannot be removed now is swept later
            sync_directory(path.parent)
            remove_directory(aside)
            if aside.parent != path.parent:
                aside.parent.rmdir()
    return done


def sweep(directory: Path) -> list[Path]:
    """Remove what killed saves left behind, and nothing that a living process still writes.

    A directory whose replacement did not come to be gets its name back.

    Returns:
        The files and directories that were removed.
    """
    removed = []
    replaced = sorted(directory.glob(f".*{_OLD_SUFFIX}"), reverse=True)  # of several, the newest is put back
    for litter in [*replaced, *sorted(directory.glob(f".*{_SUFFIX}"))]:
        with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):  # a name that is none of ours
            if not _is_plain(litter):
                continue
            if _is_wrapper(litter) and not any(litter.iterdir()):
                litter.rmdir()
                continue
            content = next(litter.iterdir()) if _is_wrapper(litter) else litter
            if not _is_plain(content):
                continue
            with _locked_litter(content) as locked:
                if locked and not (litter in replaced and _renamed(content, _named(content))):
                    shutil.rmtree(content) if content.is_dir() else content.unlink()
                    removed.append(litter)
            if content != litter:
                litter.rmdir()
    return removed


def _is_plain(litter: Path) -> bool:
    """Say whether it is a file or a directory, rather than a pipe, which would be waited for, or a link."""
    mode = litter.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _is_wrapper(litter: Path) -> bool:
    """Say whether it holds a directory under its own name, which `_aside` puts there if that is long."""
    return litter.name.endswith(_OLD_SUFFIX) and litter.name.count(".") == 2


@contextlib.contextmanager
def _locked_litter(path: Path) -> Iterator[bool]:
    """Say whether a file or directory could be locked; raises where its writer lives."""
    try:
        descriptor = os.open(path, os.O_RDWR)  # NFS locks only what is open for writing
    except (PermissionError, IsADirectoryError):  # another user's, or a directory
        descriptor = os.open(path, os.O_RDONLY)
    try:
        with holding(descriptor, wait=False) as locked:
            yield locked
    finally:
        os.close(descriptor)


def _named(litter: Path) -> Path:
    """Return the path of what was moved aside; see `_aside`."""
    if _is_wrapper(litter.parent):
        return litter.parent.with_name(litter.name)
    return litter.with_name(litter.name[1:].rsplit(".", 2)[0])
