"""CRC-32 at the speed of memory where a library for it is installed; its value is zlib's everywhere."""

from __future__ import annotations

from typing import BinaryIO

try:
    from isal.isal_zlib import crc32
except ImportError:  # a system without a wheel of it
    from zlib import crc32

__all__ = ["crc32", "write_summed"]

_PIECE = 1 << 18
"""How much is summed and written at a time: little enough to be in the processor's cache still when it is written."""


def write_summed(file: BinaryIO, data: memoryview, digest: int = 0) -> int:
    """Write bytes and return their CRC-32, which takes no pass over memory of its own.

    Args:
        file: open for writing.
        data: contiguous bytes.
        digest: the CRC-32 of what they continue.
    """
    view = data.cast("B") if data.nbytes else data
    for start in range(0, data.nbytes, _PIECE):
        piece = view[start : start + _PIECE]
        digest = crc32(piece, digest)
        file.write(piece)
    return digest
