"""Files as memory: mapped where the file system can, read where it cannot."""

from __future__ import annotations

import mmap
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.disk.optional import attempt


@final
@dataclass(frozen=True)
class _Mapped:
    """A file as it was when it was mapped."""

    path: Path | None
    identity: tuple[int, int]
    size: int
    changed: int

    @classmethod
    def of(cls, file: BinaryIO) -> _Mapped:
        status = os.fstat(file.fileno())
        path = Path(file.name).absolute() if isinstance(file.name, str | os.PathLike) else None
        return cls(path, (status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)

    def change(self, memory: mmap.mmap) -> str:
        """Return what happened to the file since, or "" where nothing did; one that replaced it is another file."""
        if (size := memory.size()) != self.size:
            return f"`{self.path}` has {size:,} bytes, and had {self.size:,} when it was read"
        try:
            status = self.path.stat() if self.path is not None else None
        except OSError:  # it is gone, and nobody writes to it by its name
            status = None
        if status is None:
            return ""
        there = (status.st_dev, status.st_ino) == self.identity
        return f"`{self.path}` was written to since it was read" if there and status.st_mtime_ns != self.changed else ""


_mapped = weakref.WeakKeyDictionary[mmap.mmap, _Mapped]()


def mapped_array(file: BinaryIO, start: int, nbytes: int) -> NDArray[np.uint8] | None:
    """Return bytes of a file as an array of which every change stays in memory; None where it cannot be mapped."""

    def mapped() -> NDArray[np.uint8] | None:
        known = _Mapped.of(file)
        found = np.memmap(file, np.uint8, "c", start, (nbytes,))
        if (memory := _memory_of(found)) is not None:
            _mapped[memory] = known
        return np.asarray(found)

    return attempt("memory maps", mapped, lambda: None)


def change_below(array: NDArray[Any]) -> str:
    """Return what happened to the file that an array lies in, since it was mapped; "" where nothing did, or in none.

    An access to what was cut off would end the process, and what was overwritten would be there unverified.
    """
    memory = _memory_of(array)
    known = None if memory is None else _mapped.get(memory)
    return "" if memory is None or known is None else known.change(memory)


def is_mapped(array: NDArray[Any]) -> bool:
    """Say whether an array lies in a file whose changes `change_below` tells."""
    memory = _memory_of(array)
    return memory is not None and memory in _mapped


def _memory_of(array: Any) -> mmap.mmap | None:
    """Return the mapped file that an array, or what it is a view of, lies in."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    return array


def mapped_file(file: BinaryIO) -> mmap.mmap:
    """Return a whole file as memory that is only to be read."""
    return attempt(
        "memory maps", lambda: mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), lambda: _read_into_memory(file)
    )


def _read_into_memory(file: BinaryIO) -> mmap.mmap:
    memory = mmap.mmap(-1, os.fstat(file.fileno()).st_size)
    file.seek(0)
    while content := file.read(1 << 20):
        memory.write(content)
    memory.seek(0)
    return memory
