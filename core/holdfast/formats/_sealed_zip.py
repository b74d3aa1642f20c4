"""Zip archives in the exact layout of `torch.save`, with every byte under a checksum.

Records are stored uncompressed, padded so that their bytes begin at multiples of 64, and followed by a data descriptor
(PyTorch calculates where records lie from precisely this layout: see ``getPadding`` in its
``caffe2/serialize/inline_container.cc``, and ``torch.serialization._load``). The zip format protects a record's bytes
with a CRC-32 but nothing protects headers, padding and the directory. So the archive's comment, which zip readers
skip, holds the seal: a CRC-32 over everything that is not a record's bytes.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from holdfast.formats._digests import digests_ahead, read_digested

ALIGNMENT = 64
ZIP64_LIMIT = 0xFFFFFFFF
"""Sizes and offsets from here on do not fit the fields of the original zip format."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_UTF8, _DESCRIPTOR = 0x0800, 0x0008
_SEAL = b"holdfast seal 1: "
_SEAL_DIGITS = 8


@final
@dataclass(frozen=True)
class _Entry:
    name: bytes
    offset: int
    size: int
    digest: int

    @property
    def flags(self) -> int:
        return _UTF8 | (_DESCRIPTOR if self.size else 0)

    @property
    def zip64(self) -> bytes:
        """Return the extra field with what does not fit its ordinary place, as miniz writes it."""
        fields = [self.size, self.size] if self.size >= ZIP64_LIMIT else []
        fields += [self.offset] if self.offset >= ZIP64_LIMIT else []
        return struct.pack(f"<2H{len(fields)}Q", 1, 8 * len(fields), *fields) if fields else b""


@final
class SealedZipWriter:
    """Writes an archive record by record, front to back.

    Args:
        file: an empty file, open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._seal = 0
        self._entries: list[_Entry] = []

    def write(self, records: Iterable[tuple[str, Any]]) -> None:
        """Write records, each a name and a buffer of bytes, without copying the buffers."""
        named = [(name, memoryview(data)) for name, data in records]
        with digests_ahead([data for _, data in named]) as digests:
            for name, data in named:
                self._write_record(name.encode(), data, digests)

    def _write_record(self, name: bytes, data: memoryview, digests: Iterator[int]) -> None:
        offset, size = self._position, data.nbytes
        entry = _Entry(name, offset, size, 0)
        self._structure(self._local_header(entry))
        self._file.write(data)
        self._position += size
        entry = _Entry(name, offset, size, next(digests))
        if size:
            wide = size >= ZIP64_LIMIT or offset >= ZIP64_LIMIT
            self._structure(struct.pack("<4sI2Q" if wide else "<4s3I", b"PK\7\x08", entry.digest, size, size))
        self._entries.append(entry)

    def _local_header(self, entry: _Entry) -> bytes:
        extra = entry.zip64
        unpadded = entry.offset + _LOCAL.size + len(entry.name) + len(extra) + 4
        padding = -unpadded % ALIGNMENT
        extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        fields = (b"PK\3\4", 0, entry.flags, 0, 0, 0, 0, 0, 0, len(entry.name), len(extra))
        return _LOCAL.pack(*fields) + entry.name + extra

    def _structure(self, data: bytes) -> None:
        self._file.write(data)
        self._seal = zlib.crc32(data, self._seal)
        self._position += len(data)

    def finish(self) -> None:
        """Write the directory and the seal."""
        start = self._position
        for entry in self._entries:
            self._structure(_central_header(entry))
        self._structure(_end_records(start, self._position - start, len(self._entries)))
        self._file.write(f"{self._seal:08x}".encode())


def _central_header(entry: _Entry) -> bytes:
    extra = entry.zip64
    size, offset = min(entry.size, ZIP64_LIMIT), min(entry.offset, ZIP64_LIMIT)
    fields = (b"PK\1\2", 0, 0, entry.flags, 0, 0, 0, entry.digest, size, size, len(entry.name), len(extra))
    return _CENTRAL.pack(*fields, 0, 0, 0, 0, offset) + entry.name + extra


def _end_records(start: int, size: int, count: int) -> bytes:
    wide = _END64.pack(b"PK\6\6", _END64.size - 12, 0x031E, 45, 0, 0, count, count, size, start)
    locator = _END64_LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
    few, small, low = min(count, 0xFFFF), min(size, ZIP64_LIMIT), min(start, ZIP64_LIMIT)
    end = _END.pack(b"PK\5\6", 0, 0, few, few, small, low, len(_SEAL) + _SEAL_DIGITS)
    return wide + locator + end + _SEAL


@final
class DamagedZip(Exception):
    """An archive is not as it was written.

    Args:
        part: the record, or the part of the archive between the records.
        reason: what is wrong with it.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part, self.reason = part, reason


@final
class SealedZipReader:
    """Reads records and verifies them; also of archives that others wrote, as far as those can be verified.

    Args:
        file: an archive, open for reading.

    Raises:
        DamagedZip: if the directory cannot be read, or anything outside the records differs from what was sealed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        try:
            self._zip = zipfile.ZipFile(file)
            self._size = file.seek(0, 2)
            self._starts = {info.filename: self._data_offset(info) for info in self._zip.infolist()}
        except Exception as error:  # zipfile raises nearly anything for bytes that are no archive
            raise DamagedZip("zip directory", f"cannot be read ({error})") from error
        self.sealed = self._zip.comment.startswith(_SEAL)
        if self.sealed:
            self._check_seal()
        if min((info.header_offset for info in self._zip.infolist()), default=0) != 0:
            raise DamagedZip("beginning", "is not that of the archive")

    @property
    def names(self) -> list[str]:
        """Return the names of the records, in order."""
        return self._zip.namelist()

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        self._file.seek(info.header_offset)
        header = _LOCAL.unpack(self._file.read(_LOCAL.size))
        if header[0] != b"PK\3\4":
            raise ValueError(f"the record `{info.filename}` has no header where it should be")
        start = info.header_offset + _LOCAL.size + int(header[-2]) + int(header[-1])
        if start + info.compress_size > self._size:
            raise ValueError(f"the record `{info.filename}` ends after the file")
        return start

    def _check_seal(self) -> None:
        position, seal = 0, 0
        spans = [(self._starts[info.filename], info.compress_size) for info in self._zip.infolist()]
        for start, size in [*sorted(spans), (self._size - _SEAL_DIGITS, 0)]:
            if start < position:
                raise DamagedZip("zip directory", "has records that overlap")
            self._file.seek(position)
            seal = zlib.crc32(self._file.read(start - position), seal)
            position = start + size
        self._file.seek(position)
        if self._file.read() != f"{seal:08x}".encode():
            raise DamagedZip("zip structure", "differs from what was written")

    def read(self, name: str) -> NDArray[np.uint8]:
        """Return the verified bytes of a record, in memory of their own.

        Raises:
            KeyError: if there is no such record.
            DamagedZip: if the bytes are not those that were written.
        """
        info = self._zip.getinfo(name)
        try:
            if info.compress_type != zipfile.ZIP_STORED:
                inflated: NDArray[np.uint8] = np.frombuffer(bytearray(self._zip.read(info)), np.uint8)
                return inflated
            self._file.seek(self._starts[name])
            data, digest = read_digested(self._file, info.file_size)
        except Exception as error:  # a damaged compressed record raises nearly anything
            raise DamagedZip(name, f"cannot be read ({error})") from error
        if digest != info.CRC:
            raise DamagedZip(name, f"has the CRC-32 {digest:08x} where {info.CRC:08x} was written")
        return data
