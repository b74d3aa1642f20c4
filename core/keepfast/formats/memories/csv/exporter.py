"""Memories as comma-separated values: a header and a line for each sample, floats in their shortest exact form.

The header names the columns (``states.0,states.1,rewards.0``), as any reader of tables takes it::

    pandas.read_csv(path)
    polars.read_csv(path)

What else a memory has lies beside it; see `keepfast.formats.memories.csv.beside`.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from keepfast import codec
from keepfast._system.commit import commit
from keepfast._system.disk.directories import sync_file
from keepfast._system.disk.mapping import mapped_file
from keepfast._system.disk.special import is_plain_file
from keepfast._system.memory.spacious import spacious_tensors
from keepfast._system.side_by_side import side_by_side
from keepfast._system.warnings import warn
from keepfast.errors import CorruptMemory, WriteFailed
from keepfast.formats.memories.csv import beside, cells, text
from keepfast.formats.memories.csv.beside import Said, Summing, Sums, companion_of, said_in
from keepfast.formats.memories.csv.cells import BadText, Column, is_float
from keepfast.formats.memories.csv.foreign import foreign_tensors
from keepfast.formats.memories.header import (
    check_header,
    flat_tensors,
    header_of,
    ring_of,
    snapshot_from,
)
from keepfast.interfaces.memory_exporter import GUESSED, MemoryExporter, MemorySnapshot

_CELLS = 1 << 19
"""How many cells are turned into text at a time, at most."""

_AT_LEAST = 4
"""In how many parts the work is cut, as two threads share it."""


@final
class CsvExporter(MemoryExporter):
    """Writes a line for each sample, row by row, and within a row environment by environment.

    Samples that were never written have no line. Of a csv without its companion, as of another tool's, each line is a
    row of one environment.
    """

    extension: ClassVar[str] = ".csv"

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:
        """Write the csv alone, without what lies beside it."""
        _write(snapshot, file)

    def _commit(self, content: MemorySnapshot, path: Path) -> int:
        """Write both; the csv gets its name last, when all that could fail but that is done."""
        companion = companion_of(path)
        previous = _replaced(path, companion)

        def both(file: BinaryIO) -> None:
            sums = _write(content, file)
            file.flush()
            sync_file(file.fileno())
            commit(companion, lambda other: other.write(beside.written(_said(content, sums), previous)))

        return commit(path, both)

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        with path.open("rb") as file:  # before its companion, which tells of the file before it too
            if not path.stat().st_size:
                raise CorruptMemory(f"`{path}` is damaged: it is empty, where a csv has a header")
            data = mapped_file(file)
        said = _told(path)
        found = Sums.of(data) if said else None
        same = next((each for each in said if each.sums == found), None)
        if same is not None and same.memory is not None:
            return _read(data, same, path)
        if same is None and said and found is not None:
            _tell_changed(data, found, said[0], path)
        foreign = snapshot_from(foreign_tensors(data, path), {}, path)
        return replace(foreign, metadata={GUESSED: ["dtypes", "num_envs"]})

    def remove(self, path: Path) -> None:  # noqa: D102  (the interface's)
        companion = companion_of(path)
        is_ours = _is_ours(companion)
        path.unlink(missing_ok=True)
        if is_ours:
            companion.unlink(missing_ok=True)


def _told(path: Path) -> list[Said]:
    companion = companion_of(path)
    said = said_in(companion)
    if said is None:
        warn(f"`{companion}` is none that Keepfast wrote and is passed over; `{path}` is read as another tool's csv")
    return said or []


def _is_ours(companion: Path) -> bool:
    try:
        return bool(said_in(companion))
    except CorruptMemory:
        return True


def _replaced(path: Path, companion: Path) -> Said | None:
    """Return what is said of the csv that is about to be replaced; None where there is none.

    Raises:
        WriteFailed: if what lies beside it is not ours, and would be lost.
    """
    try:
        said = said_in(companion)
    except CorruptMemory:
        said = []
    if said is None:
        raise WriteFailed(
            f"cannot write `{path}`: `{companion}` is none that Keepfast wrote and would be lost; move it, or give "
            "another name"
        )
    if not is_plain_file(path) or not path.stat().st_size:
        return None
    with path.open("rb") as file:
        found = Sums.of(mapped_file(file))
    return next((each for each in said if each.sums == found), Said(found))


def _said(snapshot: MemorySnapshot, sums: Sums) -> Said:
    header = header_of(snapshot)
    memory = {**header, "metadata": codec.encode(header["metadata"])}
    found = {name: cells.own_bits(tensor.reshape(-1)) for name, tensor in snapshot.tensors.items()}
    return Said(sums, memory, codec.encode({name: bits for name, bits in found.items() if bits is not None}))


def _write(snapshot: MemorySnapshot, file: BinaryIO) -> Sums:
    summing = Summing()
    for block in _blocks(snapshot):
        file.write(block)
        summing.add(block)
    return Sums(summing.size, summing.slices())


def _blocks(snapshot: MemorySnapshot) -> Iterator[bytes | memoryview]:
    titles = _titles({name: tensor.shape[2:] for name, tensor in snapshot.tensors.items()})
    yield titles
    filled = [tensor for tensor in flat_tensors(snapshot).values() if tensor.shape[1]]
    if not filled:
        return
    width = titles.count(b",") + 1
    rows = max(1, min(_CELLS, len(snapshot) * width // _AT_LEAST) // width)
    parts = [slice(start, min(start + rows, len(snapshot))) for start in range(0, len(snapshot), rows)]
    yield from side_by_side(lambda part: text.lines([tensor[part] for tensor in filled]), parts)


def _titles(sizes: Mapping[str, tuple[int, ...]]) -> bytes:
    """Return the line of titles, one of each column; for people and other tools, as the companion tells the names."""
    taken: dict[str, None] = {}
    for name, size in sizes.items():
        title = re.sub(r'[\s,"#\0]', "_", name)
        while not taken.keys().isdisjoint(own := [".".join(map(str, (title, *place))) for place in np.ndindex(*size)]):
            title += "_"
        taken.update(dict.fromkeys(own))
    return ",".join(taken).encode("utf-8", "backslashreplace") + b"\n"


def _read(data: mmap.mmap, said: Said, path: Path) -> MemorySnapshot:
    header, columns = _header(said, path)
    try:
        tensors = _tensors(data, header, columns)
        for name, (places, bits) in codec.decode(said.nans).items():
            tensors[name].reshape(-1).view(bits.dtype)[places] = bits
    except (ValueError, IndexError, TypeError, KeyError, AttributeError) as error:  # sums of rows that do not fit
        raise _damage(data, columns, path, str(error)) from error
    return snapshot_from(tensors, header, path)


def _header(said: Said, path: Path) -> tuple[dict[str, Any], list[Column]]:
    try:
        header = {**(said.memory or {}), "metadata": codec.decode((said.memory or {})["metadata"])}
        check_header(header, path)
        columns = [
            Column(name, codec.dtype_of(described["dtype"]), math.prod(described["size"]))
            for name, described in header["tensors"].items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptMemory(
            f"`{path}` is damaged: what `{companion_of(path)}` tells cannot be read ({error})"
        ) from error
    for column in columns:
        if column.dtype.kind not in "biu" and not is_float(column.dtype):
            raise CorruptMemory(f"`{path}` is damaged: beside it, `{column.name}` has the dtype {column.dtype}")
    return header, columns


def _tensors(data: mmap.mmap, header: Mapping[str, Any], columns: list[Column]) -> dict[str, NDArray[Any]]:
    ring = ring_of(header)
    width = sum(column.width for column in columns)
    filled = [column for column in columns if column.width]
    start = data.find(b"\n") + 1
    if filled and (titles := data[:start].count(b",") + 1) != width:
        raise BadText(f"{titles} columns, where {width} belong")
    if filled and (found := _lines(data, start)) != len(ring):
        raise BadText(f"{found} lines, where {len(ring)} belong")
    layout = {column.name: ((ring.capacity, column.width), column.dtype) for column in columns}
    flat = spacious_tensors(layout, len(ring))
    row = 0
    parts = text.parts(data, start, len(data), text.PART) if filled else ()
    for values in side_by_side(lambda part: text.tables(data[part], filled), parts):
        for column, table in zip(filled, values, strict=True):
            flat[column.name][row : row + len(table)] = table
        row += len(table)
    sizes = ring.memory_size, ring.num_envs
    return {name: flat[name].reshape(*sizes, *described["size"]) for name, described in header["tensors"].items()}


def _lines(data: mmap.mmap, start: int) -> int:
    return sum(data[part].count(b"\n") for part in text.parts(data, start, len(data), text.PART))


def _tell_changed(data: mmap.mmap, found: Sums, said: Said, path: Path) -> None:
    """Warn of a csv that is another one than its companion was written for.

    Raises:
        CorruptMemory: if it is the same one, damaged: as large and mostly alike, or its beginning, or with bytes that
            no text has.
    """
    companion = companion_of(path)
    if said.memory is not None and (damage := _what_is_lost(data, found, said)):
        _, columns = _header(said, path)
        way = f"where another tool changed it, remove `{companion}`, and it is read as that tool's"
        raise _damage(data, columns, path, f"{damage}; {way}")
    warn(f"`{path}` was changed since Keepfast wrote `{companion}`, and is read as another tool's csv")


def _what_is_lost(data: mmap.mmap, found: Sums, said: Said) -> str | None:
    if data.find(b"\0") >= 0:
        return "it holds zeros in the place of text"
    if found.size == said.sums.size and found.differ(said.sums) <= 0.5:
        return "its checksums are not those it was written with"
    titles = _titles({name: described["size"] for name, described in (said.memory or {})["tensors"].items()})
    if found.begin(said.sums) and data[: len(titles)] == titles[: len(data)]:
        return f"it ends after {found.size} of {said.sums.size} bytes"
    return None


def _damage(data: mmap.mmap, columns: list[Column], path: Path, reason: str) -> CorruptMemory:
    """Return the error of a file that is not as it was written; names the first line that cannot be, else a reason."""
    data.seek(data.find(b"\n") + 1)
    for number, line in enumerate(iter(partial(data.readline), b""), start=2):
        try:
            cells.tables(line, columns)
        except BadText as bad:
            return CorruptMemory(f"`{path}` has a broken row: line {number} {bad}")
    return CorruptMemory(f"`{path}` is damaged: {reason}")
