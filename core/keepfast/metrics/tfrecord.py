"""The framing of TensorBoard's event files: length, checksum, data, checksum.

The layout is TensorFlow's (``tensorflow/core/lib/io/record_writer.h``): a little-endian uint64 length, the masked
CRC-32C of those eight bytes, the data, and the masked CRC-32C of the data.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_ALL_ONES = 0xFFFFFFFF
_CHUNK = 1024
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


@functools.cache
def _table() -> NDArray[np.uint32]:
    """Return, for each distance from the end of a chunk, what each byte there contributes to the chunk's CRC.

    A CRC is linear over XOR, so a chunk's is the XOR of its bytes' contributions: one gather and one reduction in
    NumPy, in the place of a Python loop over bytes.
    """
    single = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        single = np.where(single & 1, (single >> 1) ^ np.uint32(_POLYNOMIAL), single >> 1).astype(np.uint32)
    table = np.empty((_CHUNK, 256), np.uint32)
    table[-1] = single
    for distance in range(2, _CHUNK + 1):
        nearer = table[-distance + 1]
        table[-distance] = (nearer >> 8) ^ single[nearer & 0xFF]
    return table.reshape(-1)


_OFFSETS = np.arange(_CHUNK, dtype=np.intp) * 256


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the CRC-32C (Castagnoli) of bytes."""
    table, view = _table(), np.frombuffer(data, np.uint8)
    state = _ALL_ONES
    for start in range(0, len(view), _CHUNK):
        chunk = view[start : start + _CHUNK].astype(np.intp)
        # What came before enters as an XOR onto the first four bytes; a state longer than the chunk is shifted on.
        before = np.frombuffer(struct.pack("<I", state), np.uint8)[: len(chunk)]
        chunk[: len(before)] ^= before
        state = int(np.bitwise_xor.reduce(table[chunk + _OFFSETS[-len(chunk) :]])) ^ (state >> 8 * len(chunk))
    return state ^ _ALL_ONES


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the checksum as event files hold it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL_ONES


@functools.lru_cache(maxsize=1024)
def _header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + _FOOTER.pack(masked_crc32c(packed))


def frame(data: bytes) -> bytes:
    """Return a record that holds the data."""
    return b"".join((_header(len(data)), data, _FOOTER.pack(masked_crc32c(data))))


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the data of each record, up to the first that is torn or damaged.

    Args:
        file: open for reading, at the start of a record. It may still be written to by another process.
    """
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        length, header_crc = _HEADER.unpack(header)
        if masked_crc32c(header[:8]) != header_crc:
            return
        data, footer = file.read(length), file.read(_FOOTER.size)
        if len(footer) < _FOOTER.size or masked_crc32c(data) != _FOOTER.unpack(footer)[0]:
            return
        yield data
