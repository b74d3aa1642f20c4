"""The directory of a zip archive: which records there are, and where.

`zipfile` reads it, or, of an archive that is as `torch.save` and Keepfast write them, this file does: a model may have
a hundred thousand records, of each of which `zipfile` makes an object with all that a record may have.
"""

from __future__ import annotations

import os
import struct
import zipfile
from dataclasses import dataclass
from typing import IO, BinaryIO, NamedTuple, final

from keepfast._system.disk.bounded import opened_zip, require_few_records

_END, _END64, _LOCATOR = struct.Struct("<4s4H2IH"), struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s2xH2xH4x3IH6s6xI")
"""Of a record in the directory, what is told of it here, and what is 0 where it has no more than a name."""
_LONGEST_END = 0xFFFF + _END.size + _END64.size + _LOCATOR.size
"""How much there is behind a directory at most, nearly all of it a comment."""

_NO_MORE = bytes(6)
"""The lengths of a record's extra field and comment, and the number of its disk."""

_NEEDED = 45
"""The newest version of the format that a record needs here."""


@final
class Record(NamedTuple):
    """A record of an archive.

    Attributes:
        name: its name.
        header: where its header begins.
        size: how many bytes it has in the file.
        length: how many bytes it has when it is inflated.
        digest: their CRC-32.
        method: how it is compressed, by the number that the format has for that.
    """

    name: str
    header: int
    size: int
    length: int
    digest: int
    method: int


@final
@dataclass(frozen=True, slots=True)
class Directory:
    """What the directory of an archive says.

    Attributes:
        records: the records, in its order.
        start: where it begins.
        comment: what stands behind its end.
    """

    records: list[Record]
    start: int
    comment: bytes
    _archive: zipfile.ZipFile | None = None

    def opened(self, name: str) -> IO[bytes]:
        """Open a record that is compressed.

        Raises:
            KeyError: if none is.
        """
        if self._archive is None:
            raise KeyError(name)
        return self._archive.open(name)


def read_directory(file: BinaryIO) -> Directory:
    """Return the directory of an archive.

    Raises:
        BadZipFile: if there is none, or it has more records than one of a file of its size may.
        Exception: nearly any, if it is damaged.
    """
    require_few_records(file)
    if (found := _usual(file)) is not None:
        return found
    archive = opened_zip(file)
    records = [
        Record(each.filename, each.header_offset, each.compress_size, each.file_size, each.CRC, each.compress_type)
        for each in archive.infolist()
    ]
    return Directory(records, archive.start_dir, archive.comment, archive)


def _usual(file: BinaryIO) -> Directory | None:
    """Return a directory that has nothing but stored records with plain names.

    Returns:
        What `zipfile` would read; None where it would look in another place, find anything more, or raise.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _LONGEST_END))
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    wide, locator = place - _LOCATOR.size - _END64.size, place - _LOCATOR.size
    if wide < 0 or place + _END.size > len(tail) or not tail.startswith(b"PK\6\7", locator):
        return None
    length, comment = int(_END.unpack_from(tail, place)[-1]), tail[place + _END.size :]
    mark, *_, disk, first, here, count, size, start = _END64.unpack_from(tail, wide)
    is_whole = start + size == end - len(tail) + wide and _LOCATOR.unpack_from(tail, locator)[1::2] == (0, 1)
    if mark != b"PK\6\6" or length != len(comment) or disk or first or here != count or not is_whole:
        return None
    file.seek(start)
    records = _usual_records(file.read(size), count)
    return None if records is None else Directory(records, start, comment)


def _usual_records(directory: bytes, count: int) -> list[Record] | None:
    records, at, unpack, made = list[Record](), 0, _ENTRY.unpack_from, tuple.__new__
    try:
        while at < len(directory):
            mark, needed, method, digest, size, length, named, more, header = unpack(directory, at)
            if mark != b"PK\1\2" or method or more != _NO_MORE or needed > _NEEDED or size != length:
                return None
            at += _ENTRY.size + named
            name = directory[at - named : at].decode("ascii")
            records.append(made(Record, (name, header, size, size, digest, method)))
    except (struct.error, UnicodeDecodeError):
        return None
    names = {record.name for record in records}
    together = "".join(names)
    is_plain = len(names) == len(records) == count and "\0" not in together and "\\" not in together
    return records if is_plain and at == len(directory) else None
