"""Zip archives in the exact layout of `torch.save`, with every byte under a checksum.

Records are stored uncompressed, padded so that their bytes begin at multiples of 64, and followed by a data descriptor
(PyTorch calculates where records lie from precisely this layout: see ``getPadding`` in its
``caffe2/serialize/inline_container.cc``, and ``torch.serialization._load``). The zip format protects a record's bytes
with a CRC-32 but nothing protects headers, padding and the directory. So the archive's comment, which zip readers
skip, holds the seal: a CRC-32 over everything that is not a record's bytes.

A document about the records may lie between the last of them and the directory, where zip readers do not look: it is in
no list of names, and under the seal.

Records of others may be compressed, and then inflate to so much and no more; no byte is in two.

Another tool that writes one of our archives anew may take our comment or records over, but not how it ends: between the
directory and the last record we have, as `torch.save` has, what archives of four gigabytes need.
"""

from __future__ import annotations

import functools
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.disk.checksum import Summed
from keepfast.errors import Unreadable, shown
from keepfast.formats.files.sealed import (
    SEAL_DIGITS,
    Damage,
    SealedWriter,
    check_seal,
    ends_with_seal,
    read_digested,
    wrong_digest,
)
from keepfast.formats.files.zip_directory import Record, read_directory

ALIGNMENT = 64
ZIP64_LIMIT = 0xFFFFFFFF
"""Sizes and offsets from here on do not fit the fields of the original zip format."""

_LOCAL = struct.Struct("<4s5H3I2H")
_HEADER = struct.Struct("<4s22x2H")
"""Of what `_LOCAL` is, what tells where the record's bytes begin."""

_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_LOCATOR = struct.Struct("<4sIQI")
_ENDED, _ENDED64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_DESCRIPTOR_32, _DESCRIPTOR_64 = struct.Struct("<4s3I"), struct.Struct("<4sI2Q")
_END = struct.Struct("<4s4H2IH")
_DOCUMENT = struct.Struct("<Q16s")
_DOCUMENT_MARK = b"keepfast doc 1\n\0"
"""Behind a document, with its length before it."""

_UTF8, _DESCRIPTOR = 0x0800, 0x0008
SEAL = b"keepfast seal 1: "

_ENOUGH = 2
"""How many of the four marks at the end tell an archive of ours: small ones of others have but one, at most."""

_INFLATED, _TIMES = 1 << 26, 4
"""How many bytes compressed records may have together: so many, and so many times what the file has."""

_LONGEST_END = 1 << 17
"""Comments have at most half of that."""

_CHUNK = 1 << 20


@final
@dataclass(slots=True)
class _Entry:
    name: bytes
    offset: int
    size: int
    digest: int = 0

    @property
    def flags(self) -> int:
        return _UTF8 | (_DESCRIPTOR if self.size else 0)

    @property
    def zip64(self) -> bytes:
        """Return the extra field with what does not fit its ordinary place, as miniz writes it."""
        if self.size < ZIP64_LIMIT and self.offset < ZIP64_LIMIT:
            return b""
        fields = [self.size, self.size] if self.size >= ZIP64_LIMIT else []
        fields += [self.offset] if self.offset >= ZIP64_LIMIT else []
        return struct.pack(f"<2H{len(fields)}Q", 1, 8 * len(fields), *fields)


@final
class SealedZipWriter:
    """Writes an archive record by record, front to back.

    Args:
        file: an empty file, open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._out = SealedWriter(file)
        self._entries: list[_Entry] = []

    def write(self, records: Iterable[tuple[str, Any]]) -> None:
        """Write records, each a name and a buffer of bytes or a tuple of them, without copying the buffers."""
        named = [
            (name.encode(), [memoryview(part) for part in (data if isinstance(data, tuple) else (data,))])
            for name, data in records
        ]
        before = b""
        for name, parts in named:
            entry = _Entry(name, self._out.position + len(before), sum(part.nbytes for part in parts))
            self._out.structure(before + _local_header(name, entry.offset, entry.size))
            for part in parts:
                entry.digest = self._out.payload(part, entry.digest)
            before = _data_descriptor(entry)
            self._entries.append(entry)
        self._out.structure(before)

    def finish(self, document: bytes = b"") -> Summed | None:
        """Write the directory and the seal, and before them a document, if there is one; see `SealedWriter.finish`."""
        if document:
            self._out.structure(document + _DOCUMENT.pack(len(document), _DOCUMENT_MARK))
        start = self._out.position
        self._out.structure(b"".join(map(_central_header, self._entries)))
        self._out.structure(_end_records(start, self._out.position - start, len(self._entries)))
        return self._out.finish()


@functools.lru_cache(maxsize=1024)
def _local_header(name: bytes, offset: int, size: int) -> bytes:
    """Return what stands before a record; that of a checkpoint is mostly what it was in the one before."""
    entry = _Entry(name, offset, size)
    extra = entry.zip64
    unpadded = offset + _LOCAL.size + len(name) + len(extra) + 4
    padding = -unpadded % ALIGNMENT
    extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    fields = (b"PK\3\4", 0, entry.flags, 0, 0, 0, 0, 0, 0, len(name), len(extra))
    return _LOCAL.pack(*fields) + name + extra


def _data_descriptor(entry: _Entry) -> bytes:
    if not entry.size:
        return b""
    layout = _DESCRIPTOR_64 if entry.zip64 else _DESCRIPTOR_32
    return layout.pack(b"PK\7\x08", entry.digest, entry.size, entry.size)


def _central_header(entry: _Entry) -> bytes:
    extra = entry.zip64
    size, offset = _narrow(entry.size), _narrow(entry.offset)
    fields = (b"PK\1\2", 0, 0, entry.flags, 0, 0, 0, entry.digest, size, size, len(entry.name), len(extra))
    return _CENTRAL.pack(*fields, 0, 0, 0, 0, offset) + entry.name + extra


def _narrow(value: int) -> int:
    """Return what stands in a field of 32 bits: the value, or the mark that it stands in 64 bits elsewhere."""
    return value if value < ZIP64_LIMIT else 0xFFFFFFFF


def _end_records(start: int, size: int, count: int) -> bytes:
    wide = _END64.pack(_ENDED64, _END64.size - 12, 0x031E, 45, 0, 0, count, count, size, start)
    locator = _END64_LOCATOR.pack(_LOCATOR, 0, start + size, 1)
    few = min(count, 0xFFFF)
    end = _END.pack(_ENDED, 0, 0, few, few, _narrow(size), _narrow(start), len(SEAL) + SEAL_DIGITS)
    return wide + locator + end + SEAL


def is_sealed_zip(path: Path) -> bool:
    """Say whether a file ends as the archives of `SealedZipWriter` do."""
    if not ends_with_seal(path, SEAL):
        return False
    with path.open("rb") as file:
        return _is_locator(file, len(SEAL) + SEAL_DIGITS)


def _is_locator(file: BinaryIO, comment: int) -> bool:
    """Say whether what archives of four gigabytes need stands before the end of one with a comment of that length."""
    file.seek(max(0, file.seek(0, 2) - comment - _END.size - _END64_LOCATOR.size))
    return file.read(len(_LOCATOR)) == _LOCATOR


def _ended_as_sealed(file: BinaryIO) -> bool:
    """Say whether most of how our archives end stands where it stands in them, though the seal itself does not."""
    end = file.seek(0, 2)
    ours, place = 0, end - SEAL_DIGITS
    for mark, size in (
        (SEAL, len(SEAL)),
        (_ENDED, _END.size),
        (_LOCATOR, _END64_LOCATOR.size),
        (_ENDED64, _END64.size),
    ):
        place -= size
        file.seek(max(0, place))
        ours += file.read(len(mark)) == mark
    return ours >= _ENOUGH


def _commented_as_sealed(file: BinaryIO) -> bool:
    """Say whether a comment as long as our seal stands where our archives have it, whatever bytes follow it."""
    file.seek(max(0, file.seek(0, 2) - _LONGEST_END))
    before, _, after = file.read().rpartition(_ENDED)
    length = int.from_bytes(after[_END.size - 6 : _END.size - 4], "little")
    return length == len(SEAL) + SEAL_DIGITS and before[-_END64_LOCATOR.size :].startswith(_LOCATOR)


@final
class SealedZipReader:
    """Reads records and verifies them; also of archives that others wrote, as far as those can be verified.

    Args:
        file: an archive, open for reading.
        always_summed: whether each record has its CRC-32; where not, as in what ``torch.save`` writes where PyTorch is
            told to take none, an archive without a single one is read unverified.

    Raises:
        Damage: if the directory cannot be read, or anything outside the records differs from what was sealed.
        Unreadable: if the records would take more memory than a file of this size may ask for, or are compressed in
            a way of their own.
    """

    def __init__(self, file: BinaryIO, *, always_summed: bool = True) -> None:
        self._file = file
        try:
            self._directory = read_directory(file)
            self._size = file.seek(0, 2)
            places = self._located(self._directory.records)
        except Exception as error:  # zipfile raises nearly anything for bytes that are no archive
            raise Damage("zip directory", f"cannot be read ({error})") from error
        records = self._directory.records
        self._places = {record.name: (start, record) for start, record in places}
        self._ordered = sorted(places)
        if len(self._places) != len(records):
            raise Damage("zip directory", "has two records of one name")
        marked, self.anew = self._directory.comment.startswith(SEAL), not self._ends_as_ours()
        self.sealed, self.was_sealed = marked and not self.anew, marked and self.anew
        if not marked and (_ended_as_sealed(file) or _commented_as_sealed(file)):
            raise Damage("seal", "is not what was written")
        self._summed = always_summed or self.sealed or any(record.digest for record in records)
        if self.sealed:
            check_seal(file, [(start, record.size) for start, record in self._ordered])
        if min((record.header for record in records), default=not self.sealed) != 0:
            # An archive that is the tail of another file, as when a file that holds one is truncated right behind it.
            raise Damage("zip directory", "does not describe this file")
        self._check_sizes()

    def _ends_as_ours(self) -> bool:
        """Say whether the directory ends as we, and PyTorch, write it; `zipfile` found none if that was damaged."""
        return any(
            _is_locator(self._file, comment) for comment in (len(self._directory.comment), len(SEAL) + SEAL_DIGITS)
        )

    def _check_sizes(self) -> None:
        """Check, before anything is read, that no record takes more memory than it has bytes in the file."""
        end, inflated = 0, 0
        for start, (name, _, size, length, _, method) in self._ordered:
            if start < end:
                raise Damage(name, "shares its bytes with another record")
            end = start + size
            if method == zipfile.ZIP_STORED:
                if length != size:
                    raise Damage(name, f"has {size} bytes where {length} are told")
            elif method != zipfile.ZIP_DEFLATED:
                raise Unreadable(f"the record `{shown(name)}` is compressed in a way of its own ({method})")
            else:
                inflated += length
        if inflated > _INFLATED + _TIMES * self._size:
            raise Unreadable(
                f"its compressed records would take {inflated:,} bytes of memory, which a file of {self._size:,} may "
                "not; save them without compression"
            )

    @property
    def names(self) -> list[str]:
        """Return the names of the records, in order."""
        return [record.name for record in self._directory.records]

    def document(self) -> bytes | None:
        """Return what `SealedZipWriter.finish` was given; None where there is none, or another tool was at it since.

        Raises:
            Damage: if there is one that no seal protects.
        """
        place = self._directory.start - _DOCUMENT.size
        self._file.seek(max(place, 0))
        found = self._file.read(_DOCUMENT.size)
        length, mark = _DOCUMENT.unpack(found) if place >= 0 else (0, b"")
        if mark != _DOCUMENT_MARK:
            return None
        if self.anew:
            self.was_sealed = True
            return None
        if not self.sealed or length > place:
            raise Damage("seal", "is not what was written")
        self._file.seek(place - length)
        return self._file.read(length)

    def _located(self, records: list[Record]) -> list[tuple[int, Record]]:
        """Return where the bytes of each record begin, which the header before them tells."""
        seek, read, unpack, located, end = self._file.seek, self._file.read, _HEADER.unpack, [], self._size
        for record in records:
            name, header, size, _, _, _ = record
            seek(header)
            mark, named, extra = unpack(read(_HEADER.size))
            if mark != b"PK\3\4":
                raise ValueError(f"the record `{name}` has no header where it should be")
            start = header + _HEADER.size + named + extra
            if start + size > end:
                raise ValueError(f"the record `{name}` ends after the file")
            located.append((start, record))
        return located

    def read(self, name: str) -> NDArray[np.uint8]:
        """Return the verified bytes of a record, in memory of their own.

        Raises:
            KeyError: if there is no such record.
            Damage: if the bytes are not those that were written.
        """
        start, record = self._places[name]
        _, _, size, _, written, method = record
        try:
            if method != zipfile.ZIP_STORED:
                return self._inflated(record)
            data, digest = read_digested(self._file, start, size)
        except Exception as error:  # a damaged compressed record raises nearly anything
            raise Damage(name, f"cannot be read ({error})") from error
        if digest != written and self._summed:
            raise wrong_digest(name, digest, written)
        return data

    def _inflated(self, record: Record) -> NDArray[np.uint8]:
        """Return the bytes of a compressed record; zipfile compares their CRC-32 at the end."""
        data, done = np.empty(record.length, np.uint8), 0
        with self._directory.opened(record.name) as inflated:
            while chunk := inflated.read(_CHUNK):
                data[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                done += len(chunk)
        if done != len(data):
            raise EOFError(f"has {done} bytes where {len(data)} are told")
        return data
