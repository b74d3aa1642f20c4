"""The framing of TensorBoard's event files: length, checksum, data, checksum.

The layout is TensorFlow's (``tensorflow/core/lib/io/record_writer.h``): a little-endian uint64 length, the masked
CRC-32C of those eight bytes, the data, and the masked CRC-32C of the data.
"""

from __future__ import annotations

import functools
import os
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
_WINDOW = 1 << 16


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


def read_records(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the data of each record, and None in the place of what is damaged.

    A record whose data is damaged is passed over by its length. Where the length itself is, the next place is looked
    for at which a record begins. What a kill tore at the end, or what is just being written, is no damage.

    Args:
        file: open for reading, at the start of a record. It may still be written to by another process.
    """
    start = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        length, _ = _HEADER.unpack(header)
        if header != _header(length):  # most records have the length of another
            yield None
            file.seek(_next_record(file, file.tell() - _HEADER.size + 1, end))
            continue
        if length > end - file.tell() - _FOOTER.size:
            return
        data, footer = file.read(length), file.read(_FOOTER.size)
        yield data if masked_crc32c(data) == _FOOTER.unpack(footer)[0] else None


def _next_record(file: BinaryIO, start: int, end: int) -> int:
    """Return the first place from `start` on whose length has a fitting checksum and ends within the file, or `end`."""
    while start < end:
        file.seek(start)
        window = np.frombuffer(file.read(_WINDOW), np.uint8)
        lengths, found = _headers(window)
        for place in np.flatnonzero(found):
            if int(lengths[place]) <= end - start - int(place) - _HEADER.size - _FOOTER.size:
                return start + int(place)
        start += max(1, len(found))
    return end


def _headers(window: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the length that each place of a window would tell, and whether its checksum fits."""
    places = max(0, len(window) - _HEADER.size + 1)
    eight = np.lib.stride_tricks.sliding_window_view(window, 8)[:places] if places else np.empty((0, 8), np.uint8)
    seeded = eight ^ np.array([255] * 4 + [0] * 4, np.uint8)
    crc = np.bitwise_xor.reduce(_table()[seeded + _OFFSETS[-8:]], axis=1) ^ np.uint32(_ALL_ONES)
    masked = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)
    told = np.lib.stride_tricks.sliding_window_view(window[8:], 4)[:places] if places else np.empty((0, 4), np.uint8)
    lengths: NDArray[np.uint64] = np.ascontiguousarray(eight).view("<u8").reshape(places)
    return lengths, np.ascontiguousarray(told).view("<u4").reshape(places) == masked
