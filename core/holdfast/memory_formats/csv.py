"""Memories as comma-separated values: a line for each sample, floats in their shortest exact form.

The first line is a comment with the document of `holdfast.memory_formats._header`, the second names the columns
(``states.0,states.1,rewards.0``), and the last is a comment with the CRC-32 of everything before it::

    pandas.read_csv(path, comment="#")
    polars.read_csv(path, comment_prefix="#")
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, ClassVar, final

from holdfast import codec
from holdfast.errors import CorruptMemory
from holdfast.memory import MemoryExporter, MemorySnapshot
from holdfast.memory_formats._csv_cells import BadCell, cell_texts, parse_cells
from holdfast.memory_formats._header import check_version, header_of, snapshot_from

_MARK = b"# holdfast memory: "
_TRAILER = re.compile(rb"# crc32: ([0-9a-f]{8})\n")
_TRAILER_SIZE = 18
_ROWS = 4096
"""How many rows are turned into text at a time."""


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
        data = path.read_bytes()
        if not data.startswith(_MARK):
            raise CorruptMemory(f"`{path}` is no memory that Holdfast wrote: its first line is no header")
        snapshot = _read_own(data, path)
        if data[-_TRAILER_SIZE:] != b"# crc32: %08x\n" % zlib.crc32(memoryview(data)[:-_TRAILER_SIZE]):
            raise CorruptMemory(f"`{path}` is damaged: it differs from what was written, or its end is missing")
        return snapshot


def _blocks(snapshot: MemorySnapshot) -> Iterator[bytes]:
    yield _MARK + codec.dumps(header_of(snapshot)).encode() + b"\n"
    tensors = {name: tensor.reshape(-1, math.prod(tensor.shape[2:])) for name, tensor in snapshot.tensors.items()}
    columns = _columns({name: tensor.shape[1] for name, tensor in tensors.items()})
    yield columns + b"\n"
    for start in range(0, len(snapshot), _ROWS):
        stop = min(start + _ROWS, len(snapshot))
        cells = [cell_texts(column) for tensor in tensors.values() for column in tensor[start:stop].T]
        yield b"".join(b",".join(row) + b"\n" for row in zip(*cells, strict=True))
    yield (b"," * columns.count(b",") + b"\n") * (snapshot.memory_size * snapshot.num_envs - len(snapshot))


def _columns(widths: Mapping[str, int]) -> bytes:
    return ",".join(f"{name}.{column}" for name, width in widths.items() for column in range(width)).encode()


def _read_own(data: bytes, path: Path) -> MemorySnapshot:
    first, columns, *rows = [*data[:-_TRAILER_SIZE].split(b"\n"), b""]
    try:
        header = codec.loads(first.removeprefix(_MARK))
        described = {name: (codec.dtype_of(d["dtype"]), tuple(d["size"])) for name, d in header["tensors"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptMemory(f"`{path}` is damaged: line 1, the header, cannot be read ({error})") from error
    check_version(header, path)
    if columns != _columns({name: math.prod(size) for name, (_, size) in described.items()}):
        raise CorruptMemory(f"`{path}` is damaged: line 2 does not name the columns that line 1 describes")
    total = sum(math.prod(size) for _, size in described.values())
    sizes = header["memory_size"], header["num_envs"]
    table = _table(rows[: math.prod(sizes)], total, path)
    tensors, column = {}, 0
    for name, (dtype, size) in described.items():
        width = math.prod(size)
        cells = [cell for row in table for cell in row[column : column + width]]
        try:
            tensors[name] = parse_cells(cells, dtype).reshape(*sizes, *size)
        except BadCell as bad:
            line = bad.index // width + 3
            raise CorruptMemory(f"`{path}` has a broken row: line {line}, `{name}`: {bad}") from bad
        column += width
    return snapshot_from(tensors, header, path)


def _table(rows: list[bytes], columns: int, path: Path) -> list[list[bytes]]:
    table = []
    for line, row in enumerate(rows, start=3):
        cells = row.split(b",")
        if len(cells) != columns:
            raise CorruptMemory(f"`{path}` has a broken row: line {line} has {len(cells)} cells instead of {columns}")
        table.append(cells)
    return table
