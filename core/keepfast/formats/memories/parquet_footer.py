"""What the footer of a Parquet file tells of its columns, read without Arrow.

Arrow ends the process where it is asked for the columns of some footers that make no sense: an exception of C++ that
nobody catches. So their sizes and places are read here, from the footer itself, which is a structure of Thrift's
compact protocol; the numbers of fields are those of ``parquet.thrift``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple, final

from keepfast.formats.files.sealed import Damage

_END = struct.Struct("<I4s")
_DEEPEST, _MOST_COLUMNS = 32, 1 << 16

_NUMBER, _BINARY, _LIST, _SET, _MAP, _STRUCT = 6, 8, 9, 10, 11, 12

_SCHEMA, _GROUPS, _COLUMNS, _SIZE, _ROWS, _CHUNK = 2, 4, 1, 2, 3, 3
_COMPRESSED, _DATA, _DICTIONARY = 7, 9, 11

Wanted = Mapping[int, tuple[int, Any]]
"""The fields of a structure that are kept, by number: of which kind, as Arrow passes over others, and what below."""

_PLACES: Wanted = dict.fromkeys((_COMPRESSED, _DATA, _DICTIONARY), (_NUMBER, {}))
_OF_GROUPS: Wanted = {
    _COLUMNS: (_LIST, {_CHUNK: (_STRUCT, _PLACES)}),
    _SIZE: (_NUMBER, {}),
    _ROWS: (_NUMBER, {}),
}
_WANTED: Wanted = {_SCHEMA: (_LIST, {}), _GROUPS: (_LIST, _OF_GROUPS)}


@final
class Chunk(NamedTuple):
    """Where a column of a group of rows begins, and how many bytes are stored of it."""

    start: int
    stored: int


@final
class Group(NamedTuple):
    """A group of rows: how many, how many bytes they are said to take, and its columns."""

    rows: int
    nbytes: int
    columns: tuple[Chunk, ...]


def groups_of(file: BinaryIO) -> list[Group]:
    """Return the groups of rows that the footer of a file tells of.

    Raises:
        Damage: if it is no footer, or tells of numbers below zero.
    """
    end = file.seek(0, os.SEEK_END) - _END.size
    file.seek(max(0, end))
    length, magic = _END.unpack(file.read().rjust(_END.size, b"\0"))
    if magic != b"PAR1" or length > end:
        raise Damage("footer", "is none of Parquet's")
    file.seek(end - length)
    try:
        told = _Compact(file.read(length)).structure(_WANTED, 0)
        if (columns := len(told.get(_SCHEMA, ()))) > _MOST_COLUMNS:
            raise ValueError(f"{columns:,} columns")
        return [_group(each, end) for each in told.get(_GROUPS, ())]
    except (IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damage("footer", f"cannot be read ({type(error).__name__}: {error})") from error


def _group(told: dict[int, Any], end: int) -> Group:
    columns = tuple(_chunk(each[_CHUNK], end) for each in told[_COLUMNS])
    if min(told[_ROWS], told[_SIZE]) < 0:
        raise ValueError("a group of rows has a size below 0")
    return Group(told[_ROWS], told[_SIZE], columns)


def _chunk(told: dict[int, int], end: int) -> Chunk:
    data = told[_DATA]
    start = min(told.get(_DICTIONARY, data) or data, data)
    if min(start, told[_COMPRESSED]) < 0:
        raise ValueError("a column has a size or a place below 0")
    return Chunk(start, min(told[_COMPRESSED], end))


@final
class _Compact:
    """Reads Thrift's compact protocol; of a structure, the fields that are wanted, and passes over the others."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def structure(self, wanted: Wanted, depth: int) -> dict[int, Any]:
        if depth > _DEEPEST:
            raise ValueError("structures in each other without end")
        found, number = dict[int, Any](), 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else _signed(self._varint())
            kind, below = wanted.get(number, (0, {}))
            value = self._value(head & 15, below, depth + 1)
            if kind == head & 15:
                found[number] = value
        return found

    def _value(self, kind: int, wanted: Wanted, depth: int, *, within: bool = False) -> Any:
        if kind in (1, 2):
            return self._byte() == 1 if within else kind == 1
        if kind == _STRUCT:
            return self.structure(wanted, depth)
        return _KINDS[kind](self, wanted, depth)

    def binary(self, _wanted: Wanted, _depth: int) -> None:
        self._skip(self._varint())

    def double(self, _wanted: Wanted, _depth: int) -> None:
        self._skip(8)

    def byte(self, _wanted: Wanted, _depth: int) -> int:
        return self._byte()

    def whole(self, _wanted: Wanted, _depth: int) -> int:
        return _signed(self._varint())

    def list_of(self, wanted: Wanted, depth: int) -> list[Any]:
        head = self._byte()
        count = self._counted(head >> 4 if head >> 4 != 15 else self._varint())
        return [self._value(head & 15, wanted, depth, within=True) for _ in range(count)]

    def map_of(self, _wanted: Wanted, depth: int) -> None:
        count = self._counted(self._varint())
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._value(kinds >> 4, {}, depth, within=True)
            self._value(kinds & 15, {}, depth, within=True)

    def _counted(self, count: int) -> int:
        """Return how many parts there are, of which each has a byte at least."""
        if count > len(self._content) - self._at:
            raise ValueError(f"{count:,} parts, which the footer has not")
        return count

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _skip(self, count: int) -> None:
        self._at += self._counted(count)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number without end")


def _signed(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


_KINDS: dict[int, Callable[[_Compact, Wanted, int], Any]] = {
    3: _Compact.byte,
    4: _Compact.whole,
    5: _Compact.whole,
    _NUMBER: _Compact.whole,
    7: _Compact.double,
    _BINARY: _Compact.binary,
    _LIST: _Compact.list_of,
    _SET: _Compact.list_of,
    _MAP: _Compact.map_of,
}
