"""Files as memory: mapped where the file system can, read where it cannot."""

from __future__ import annotations

import mmap
import os
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from keepfast._system.disk.optional import attempt


def mapped_array(file: BinaryIO, start: int, nbytes: int) -> NDArray[np.uint8] | None:
    """Return bytes of a file as an array of which every change stays in memory; None where it cannot be mapped."""

    def mapped() -> NDArray[np.uint8] | None:
        return np.asarray(np.memmap(file, np.uint8, "c", start, (nbytes,)))

    return attempt("memory maps", mapped, lambda: None)


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
