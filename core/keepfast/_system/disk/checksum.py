"""CRC-32 at the speed of memory where a library for it is installed; its value is zlib's everywhere."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, final

_combined: Callable[[int, int, int], int] | None
try:
    from isal.isal_zlib import crc32
    from isal.isal_zlib import crc32_combine as _combined
except ImportError:  # a system without a wheel of it
    from zlib import crc32

    _combined = None

__all__ = ["Summed", "SummedFile", "crc32"]

_PIECE = 1 << 18
"""How much is summed and written at a time: little enough to be in the processor's cache still when it is written."""

_SMALL = 1 << 12
"""Of how many bytes a write waits for others, for a call of the system or of a sum costs as much as thousands more."""

_BATCH = 1 << 23
"""After how many bytes the system is told to begin with writing to the disk."""


@final
@dataclass(frozen=True)
class Summed:
    """What a file was written with.

    Attributes:
        crc32: the CRC-32 of all its bytes.
    """

    crc32: int


@final
class SummedFile:
    """Sums what is written to a file, which takes no pass over memory of its own, and has the disk begin meanwhile.

    Small writes wait for those behind them, or for `flush`.

    Attributes:
        position: how many bytes were written.

    Args:
        file: open for writing, at its beginning or behind what is not summed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.position = 0
        self._file, self._sum = file, 0
        self._start = self._begun = file.tell()
        self._descriptor = _descriptor(file)
        self._waiting = bytearray()

    def write(self, data: bytes | memoryview, digest: int = 0) -> int:
        """Write contiguous bytes and return their CRC-32.

        Args:
            data: contiguous bytes.
            digest: the CRC-32 of what they continue.
        """
        nbytes = len(data) if isinstance(data, bytes) else data.nbytes
        if nbytes < _SMALL:
            small = bytes(data)
            self._waiting += small
            self.position += nbytes
            if len(self._waiting) >= _PIECE:
                self.flush()
            return crc32(small, digest)
        self.flush()
        view = memoryview(data).cast("B")
        own = 0 if _combined else digest
        for start in range(0, nbytes, _PIECE):
            piece = bytes(view[start : start + _PIECE])  # of what another thread may be changing
            own = crc32(piece, own)
            self._file.write(piece)
            self._begin_writing(self._start + self.position + start + len(piece))
        self.position += nbytes
        if _combined is None:
            return own
        self._sum = _combined(self._sum, own, nbytes)
        return _combined(digest, own, nbytes) if digest else own

    def add(self, data: bytes) -> None:
        """Write bytes of which nobody asks for a sum of their own."""
        if len(data) >= _SMALL:
            self.write(data)
            return
        self._waiting += data
        self.position += len(data)
        if len(self._waiting) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Write what waits, so that others may write to the file."""
        if self._waiting:
            waiting, self._waiting = bytes(self._waiting), bytearray()
            self._sum = crc32(waiting, self._sum)
            self._file.write(waiting)
            self._begin_writing(self._start + self.position)

    def after(self, beginning: bytes) -> Summed | None:
        """Return what a file was written with that has this before what is summed, where sums can be combined."""
        self.flush()
        return Summed(_combined(crc32(beginning), self._sum, self.position)) if _combined else None

    def _begin_writing(self, end: int) -> None:
        """Tell the system to begin, where enough is ready; what is not on the disk yet stays in its cache."""
        if self._descriptor is not None and end - self._begun >= _BATCH:
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._descriptor, self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end


def _descriptor(file: BinaryIO) -> int | None:
    try:
        return file.fileno() if hasattr(os, "posix_fadvise") else None
    except (OSError, io.UnsupportedOperation, AttributeError):
        return None
