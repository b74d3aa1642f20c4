"""Memories as comma-separated values: a line for each sample, floats in their shortest exact form.

The first line is a comment with the document of `keepfast.formats.memories.header`, the second names the columns
(``states.0,states.1,rewards.0``), and the last is a comment with the CRC-32 of everything before it::

    pandas.read_csv(path, comment="#")
    polars.read_csv(path, comment_prefix="#")
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

from numpy.typing import NDArray

from keepfast import codec
from keepfast._system.disk.mapping import mapped_file
from keepfast._system.side_by_side import side_by_side
from keepfast._system.spacious import spacious_tensors
from keepfast.errors import CorruptMemory
from keepfast.formats.memories import csv_cells, csv_frames
from keepfast.formats.memories.csv_cells import BadText, Column, is_float
from keepfast.formats.memories.header import (
    check_header,
    flat_tensors,
    header_from,
    header_text,
    ring_of,
    snapshot_from,
)
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot

_MARK = b"# keepfast memory: "
_TRAILER_SIZE = 18
_PART = 1 << 23
"""How many characters are turned into values at a time."""

_CELLS = 1 << 19
"""How many cells are turned into text at a time, at most."""

_AT_LEAST = 4
"""In how many parts the work is cut, as two threads share it."""

_PROCESS = os.getpid()
"""Where polars was imported, whose threads do its work: a forked child lacks them and would wait forever."""


@final
class CsvExporter(MemoryExporter):
    """Writes a line for each sample, row by row, and within a row environment by environment.

    The cells of samples that were never written are empty.
    """

    extension: ClassVar[str] = ".csv"

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:  # noqa: D102  (the interface's)
        digest = 0
        for block in _blocks(snapshot):
            file.write(block)
            digest = zlib.crc32(block, digest)
        file.write(b"# crc32: %08x\n" % digest)

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        with path.open("rb") as file:
            if file.read(len(_MARK)) != _MARK or path.stat().st_size < len(_MARK) + _TRAILER_SIZE:
                raise CorruptMemory(f"`{path}` is no memory that Keepfast wrote, or its first line is damaged")
            data = mapped_file(file)
        return _read(data, path)


def _blocks(snapshot: MemorySnapshot) -> Iterator[bytes | memoryview]:
    yield _MARK + header_text(snapshot) + b"\n"
    tensors = flat_tensors(snapshot)
    columns = _columns({name: tensor.shape[1] for name, tensor in tensors.items()})
    yield columns + b"\n"
    filled = [tensor for tensor in tensors.values() if tensor.shape[1]]
    if not filled:
        return
    width = columns.count(b",") + 1
    rows = max(1, min(_CELLS, len(snapshot) * width // _AT_LEAST) // width)
    parts = [slice(start, min(start + rows, len(snapshot))) for start in range(0, len(snapshot), rows)]
    lines = csv_cells.lines if _is_forked() else csv_frames.lines
    yield from side_by_side(lambda part: lines([tensor[part] for tensor in filled]), parts)
    yield (b"," * columns.count(b",") + b"\n") * (snapshot.ring.capacity - len(snapshot))


def _is_forked() -> bool:
    return os.getpid() != _PROCESS


def _columns(widths: Mapping[str, int]) -> bytes:
    """Return the titles of the columns; for people and other tools, as the header tells the names exactly."""
    titles: dict[str, str] = {}
    for name in widths:
        title = re.sub(r'[\s,"#]', "_", name)
        while title in titles.values():
            title += "_"
        titles[name] = title
    return ",".join(f"{titles[name]}.{column}" for name in widths for column in range(widths[name])).encode()


def _read(data: mmap.mmap, path: Path) -> MemorySnapshot:
    size = len(data) - _TRAILER_SIZE
    intact = data[size:] == b"# crc32: %08x\n" % zlib.crc32(memoryview(data)[:size])
    first = data.find(b"\n")
    header, columns = _header(data[len(_MARK) : first], path)
    start = data.find(b"\n", first + 1) + 1
    if not intact:
        reason = "its CRC-32 is not the one in its last line, or that line is missing"
        raise _damage(data, start, columns, path, reason)
    try:
        return snapshot_from(_tensors(data, start, header, columns), header, path)
    except CorruptMemory:
        raise
    except (ValueError, IndexError) as error:  # a digest that was made to fit rows that do not
        raise _damage(data, start, columns, path, str(error)) from error


def _header(line: bytes, path: Path) -> tuple[dict[str, Any], list[Column]]:
    try:
        header = header_from(line)
        columns = [
            Column(name, codec.dtype_of(described["dtype"]), math.prod(described["size"]))
            for name, described in header["tensors"].items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptMemory(f"`{path}` is damaged: line 1, the header, cannot be read ({error})") from error
    check_header(header, path)
    for column in columns:
        if column.dtype.kind not in "biu" and not is_float(column.dtype):
            raise CorruptMemory(f"`{path}` is damaged: line 1 gives `{column.name}` the dtype {column.dtype}")
    return header, columns


def _tensors(data: mmap.mmap, start: int, header: Mapping[str, Any], columns: list[Column]) -> dict[str, NDArray[Any]]:
    ring = ring_of(header)
    absent, width = ring.capacity - len(ring), sum(column.width for column in columns)
    filled = [column for column in columns if column.width]
    if filled and ring.capacity * width > len(data):  # a cell is a byte at least, the comma or line feed behind it
        raise BadText(f"{ring.capacity} lines of {width} cells belong there, more than its {len(data)} bytes can be")
    stop = len(data) - _TRAILER_SIZE - absent * width  # of commas and a line feed
    if filled and (found := _lines(data, start, stop)) != len(ring):
        raise BadText(f"{found} lines, where {len(ring)} belong")
    layout = {column.name: ((ring.capacity, column.width), column.dtype) for column in columns}
    flat = spacious_tensors(layout, len(ring))
    row = 0
    parts = _parts(data, start, stop) if filled else ()
    for values in side_by_side(lambda part: _tables(data[part], filled), parts):
        for column, table in zip(filled, values, strict=True):
            flat[column.name][row : row + len(table)] = table
        row += len(table)
    sizes = ring.memory_size, ring.num_envs
    return {name: flat[name].reshape(*sizes, *described["size"]) for name, described in header["tensors"].items()}


def _lines(data: mmap.mmap, start: int, stop: int) -> int:
    return sum(data[place : min(place + _PART, stop)].count(b"\n") for place in range(start, stop, _PART))


def _tables(text: bytes, columns: list[Column]) -> list[NDArray[Any]]:
    if not _is_forked():
        with contextlib.suppress(BadText):  # a NaN with a payload, or what is no number
            return csv_frames.tables(text, columns)
    return csv_cells.tables(text, columns)


def _parts(data: mmap.mmap, start: int, stop: int) -> Iterator[slice]:
    """Yield where whole lines begin and end, some of them at a time."""
    while start < stop:
        end = stop if stop - start <= _PART else data.rfind(b"\n", start, start + _PART) + 1
        end = end or data.find(b"\n", start) + 1  # a line longer than a part
        yield slice(start, end)
        start = end


def _damage(data: mmap.mmap, start: int, columns: list[Column], path: Path, reason: str) -> CorruptMemory:
    """Return the error of a file that is not as it was written; names the first line that cannot be, else a reason."""
    data.seek(start)
    for number, line in enumerate(iter(data.readline, b""), start=3):
        if line.startswith(b"#"):
            break
        try:
            csv_cells.tables(line, columns)
        except BadText as bad:
            return CorruptMemory(f"`{path}` has a broken row: line {number} {bad}")
    return CorruptMemory(f"`{path}` is damaged: {reason}")
