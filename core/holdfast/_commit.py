"""Files that are complete or absent: temporary file, fsync, rename, fsync of the directory."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from holdfast._file_lock import lock
from holdfast.errors import WriteFailed

_SUFFIX = ".holdfast-tmp"


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
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise WriteFailed(
            f"cannot make `{path}` durable: {_reason(error)}; it is there and whole, but a power loss may undo it"
        ) from error
    return {path: size for path, (_, size) in written.items()}


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


@contextlib.contextmanager
def _locked_temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    file, temporary = _open_locked(path)
    with file:
        try:
            yield file, temporary
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _open_locked(path: Path) -> tuple[BinaryIO, Path]:
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{_SUFFIX}")
        file = temporary.open("x+b")
        # Held until the file is closed, also by a kill: whoever sweeps can tell litter from work in progress.
        with contextlib.suppress(BlockingIOError):
            lock(file.fileno(), wait=False)
            if os.name == "nt" or os.fstat(file.fileno()).st_nlink:
                return file, temporary
        file.close()  # swept between its creation and the lock; the next name is luckier


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

    Returns:
        The files that were removed.
    """
    removed = []
    for litter in sorted(directory.glob(f".*{_SUFFIX}")):
        with contextlib.suppress(OSError), litter.open("rb") as file:
            if lock(file.fileno(), wait=False):  # raises where its writer lives
                litter.unlink()
                removed.append(litter)
    return removed
