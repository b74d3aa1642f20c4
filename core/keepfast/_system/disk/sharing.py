"""Files that would get the bytes of one that is there: they become another name of it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast, final

from keepfast._system.disk.checksum import Summed
from keepfast._system.lock import holding

Identity = tuple[int, int, int, int]

_PIECE = 1 << 18
"""How much is compared at a time: little enough to be in the processor's cache still."""

_MOST_NAMES = 1000
"""How many names a file may get: fewer than any file system allows."""


@final
@dataclass(frozen=True)
class Linked:
    """What becomes another name of a file that is durable.

    Attributes:
        path: the file.
        identity: what `identity_of` says of it: another file of this name is none to be linked.
        summed: what it was written with, where that is known.
        write: writes its bytes, where it cannot have another name.
    """

    path: Path
    identity: Identity
    summed: Summed | None
    write: Callable[[BinaryIO], object]

    @property
    def size(self) -> int:
        """Return its size in bytes."""
        return self.identity[2]

    @contextlib.contextmanager
    def linked(self, other: Path, replaced: Path) -> Iterator[bool]:
        """Give the file another name, locked, and gone at the end unless it was renamed; says whether it has it.

        Args:
            other: the name.
            replaced: what it is about to replace, whose mode, where it is there, must be the file's.
        """
        with contextlib.ExitStack() as stack:
            yield self._link(other, stack) and _has_mode_of(replaced, other)

    def _link(self, other: Path, stack: contextlib.ExitStack) -> bool:
        with contextlib.suppress(OSError):  # whatever forbids it, the file can be written
            os.link(self.path, other)
            stack.callback(other.unlink, missing_ok=True)  # a rename over the file itself leaves both names
            file = stack.enter_context(other.open("rb"))
            stack.enter_context(holding(file.fileno(), wait=False))
            return identity_of(other) == self.identity
        return False


def _has_mode_of(path: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_mode == other.stat().st_mode
    return not path.exists()


def identity_of(path: Path) -> Identity | None:
    """Return what tells a file, as it is now, from all others; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def linked_to(path: Path, identity: Identity, write: Callable[[BinaryIO], object]) -> Linked | None:
    """Return a file as another name of one that is there, where it would be written with that one's bytes, all of them.

    They are compared as they are written, up to the first that differs, and go nowhere.

    Args:
        path: the file that is there.
        identity: what `identity_of` said of it when it had been written.
        write: writes the other.
    """
    if identity_of(path) != identity:
        return None
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_nlink >= _MOST_NAMES:
                return None
            compared = _Compared(file)
            told = write(cast("BinaryIO", compared))
            if not compared.is_whole:
                return None
    except Exception:  # noqa: BLE001  (they differ, or it cannot be compared; whatever else it is, the writing tells)
        return None
    return Linked(path, identity, told if isinstance(told, Summed) else None, write)


@final
class _Differs(Exception):
    """What is written is not what is there."""


@final
class _Compared(io.RawIOBase):
    """A file to write, which compares what is written with a file that is there.

    What is written first, at the beginning, may differ if it is written once more, as formats do that begin with sums.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file, self._size, self._read = file, os.fstat(file.fileno()).st_size, bytearray(_PIECE)
        self._position = self._end = self._owed = 0

    @property
    def is_whole(self) -> bool:
        """Say whether all that is there was written."""
        return self._end == self._size and not self._owed

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        return self._position

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]  # of what is written here
        view = memoryview(data).cast("B")
        start, stop = self._position, self._position + view.nbytes
        if start > self._end or stop > self._size:
            raise _Differs
        self._file.seek(start)
        if all(self._has(view[at : at + _PIECE]) for at in range(0, view.nbytes, _PIECE)):
            self._owed = 0 if start == 0 and stop >= self._owed else self._owed
        elif start == 0 and self._end == 0:
            self._owed = stop
        else:
            raise _Differs
        self._position, self._end = stop, max(self._end, stop)
        return view.nbytes

    def _has(self, piece: memoryview) -> bool:
        """Say whether the next bytes of the file are these, which a bytearray tells fastest."""
        if self._file.readinto(memoryview(self._read)[: piece.nbytes]) != piece.nbytes:
            return False
        return (self._read if piece.nbytes == _PIECE else self._read[: piece.nbytes]) == piece
