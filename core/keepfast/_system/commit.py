"""Files and directories that are complete or absent: temporary name, fsync, rename, fsync of the parent."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from keepfast._system.lock import holding
from keepfast.errors import WriteFailed

_SUFFIX = ".keepfast-tmp"
_OLD_SUFFIX = ".keepfast-old"
"""Of a directory that another one is just about to replace."""

_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST}


def commit(path: Path, write: Callable[[BinaryIO], object]) -> int:
    """Write a file so that its final name shows the whole of it or what was there before.

    The bytes go to a temporary file in the same directory and are fsynced; then the file is renamed over `path` and
    the directory fsynced, so that the rename itself survives a power loss. When this returns, the file is durable.

    Args:
        path: the final name.
        write: gets the open file, readable, writable and seekable, and writes the content.

    Returns:
        The size of the file in bytes.

    Raises:
        WriteFailed: if the operating system refused any step. What was at `path` before is untouched, unless only the
            last step failed, the fsync of the directory: then the whole new file is there, and the error says so.
    """
    return commit_together({path: write})[path]


def commit_together(files: Mapping[Path, Callable[[BinaryIO], object]]) -> dict[Path, int]:
    """Write several files of one directory; each is renamed only once all are durable under temporary names.

    Returns:
        The size of each file in bytes.

    Raises:
        WriteFailed: as for `commit`; when writing any of them failed, none was renamed.
    """
    path = next(iter(files))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            written = {}
            for path, write in files.items():
                file, temporary = stack.enter_context(_locked_temporary(path))
                write(file)
                file.flush()
                os.fsync(file.fileno())
                written[path] = (temporary, os.fstat(file.fileno()).st_size)
            for path, (temporary, _) in written.items():
                os.replace(temporary, path)  # noqa: PTH105  (fault injection in the tests replaces os.replace)
    except OSError as error:
        raise WriteFailed(f"cannot write `{path}`: {_reason(error)}; what was there before is untouched") from error
    _make_durable(path)
    return {path: size for path, (_, size) in written.items()}


def commit_directory(path: Path, files: Mapping[str, Callable[[BinaryIO], object]]) -> int:
    """Write a directory so that its final name shows all of its files or what was there before.

    A directory that is not empty cannot be replaced in one step everywhere. The previous one gets a hidden name, and
    is removed once the new one is there; after a kill between these two renames it is whole, and `sweep` puts it back.

    Args:
        path: the final name. A directory of that name is replaced if it holds nothing but files of these names.
        files: for each name, what writes the content, as `commit` takes it.

    Returns:
        The size of the files in bytes.

    Raises:
        WriteFailed: as for `commit`, and if a directory of that name holds something else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked_temporary_directory(path) as temporary:
            size = sum(_write_durable(temporary / name, write) for name, write in files.items())
            sync_directory(temporary)
            _put_in_place(temporary, path, files)
    except OSError as error:
        raise WriteFailed(f"cannot write `{path}`: {_reason(error)}; what was there before is untouched") from error
    _make_durable(path)
    return size


def remove_directory(path: Path) -> None:
    """Remove a directory, if it is there; a kill leaves the whole of it under its name, or nothing but litter."""
    if path.is_symlink() or path.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "this is no directory", str(path))
    doomed = _hidden(path, secrets.token_hex(6), _SUFFIX)
    with contextlib.suppress(FileNotFoundError):
        path.rename(doomed)
        shutil.rmtree(doomed)


def _make_durable(path: Path) -> None:
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise WriteFailed(
            f"cannot make `{path}` durable: {_reason(error)}; it is there and whole, but a power loss may undo it"
        ) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _hidden(path: Path, token: str, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{token}{suffix}")


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


def _write_durable(path: Path, write: Callable[[BinaryIO], object]) -> int:
    with path.open("x+b") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


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
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with holding(descriptor, wait=True):
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise FileNotFoundError(errno.ENOENT, "replaced by another process", str(path))
            yield
    finally:
        os.close(descriptor)


def _put_in_place(directory: Path, path: Path, names: Collection[str]) -> None:
    """Give a directory its final name, whatever other processes do to that name meanwhile."""
    while not _renamed(directory, path):
        with contextlib.suppress(FileNotFoundError):  # the one in the way is gone: try again
            strangers = sorted({child.name for child in path.iterdir()} - set(names))
            if strangers:
                raise OSError(errno.ENOTEMPTY, f"a directory of that name holds `{strangers[0]}`, which would be lost")
            if _exchanged(directory, path):
                return


def _renamed(directory: Path, path: Path) -> bool:
    """Rename a directory; says whether it could be, which a directory of that name prevents."""
    try:
        directory.rename(path)
    except OSError as error:
        if error.errno in _OCCUPIED:
            return False
        raise
    return True


def _exchanged(directory: Path, path: Path) -> bool:
    """Put a directory in the place of another, which is removed; says whether no other process was faster."""
    aside = _hidden(path, f"{time.time_ns():020d}", _OLD_SUFFIX)  # so that names sort by age
    with _locked_directory(path):
        path.rename(aside)
        try:
            done = _renamed(directory, path)
        except OSError:
            aside.rename(path)
            raise
        with contextlib.suppress(OSError):  # what cannot be removed now is swept later
            sync_directory(path.parent)
            remove_directory(aside)
    return done


def sync_directory(directory: Path) -> None:
    """Make renames and removals in a directory durable."""
    if os.name == "nt":  # directories cannot be opened there
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> list[Path]:
    """Remove what killed saves left behind, and nothing that a living process still writes.

    A directory whose replacement did not come to be gets its name back.

    Returns:
        The files and directories that were removed.
    """
    removed = []
    replaced = sorted(directory.glob(f".*{_OLD_SUFFIX}"), reverse=True)  # of several, the newest is put back
    for litter in [*replaced, *sorted(directory.glob(f".*{_SUFFIX}"))]:
        with contextlib.suppress(OSError), _locked_litter(litter) as locked:
            if locked and not (litter in replaced and _renamed(litter, _named(litter))):
                shutil.rmtree(litter) if litter.is_dir() else litter.unlink()
                removed.append(litter)
    return removed


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
    """Return the name that a hidden one was made of."""
    return litter.with_name(litter.name[1:].rsplit(".", 2)[0])
