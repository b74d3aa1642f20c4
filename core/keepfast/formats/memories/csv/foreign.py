"""Another tool's csv as tensors: a header, then a number or a truth value in each cell.

Columns ``states.0``, ``states.1`` are the elements of one tensor, as our own header spells them; ``image.0.0`` to
``image.2.3`` those of one of shape (3, 4). Values are int64, float64 or bool, as their texts tell; an
empty cell is NaN.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import CorruptMemory, InvalidValue, shown
from keepfast.formats.memories.csv import frames, text
from keepfast.formats.memories.csv.cells import BadText, Column
from keepfast.formats.memories.csv.growing import Growing
from keepfast.tree import first_repeated

_INDEX = re.compile(r"0|[1-9]\d{0,8}")
_BOM = b"\xef\xbb\xbf"
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_MOST_COLUMNS, _MOST_TENSORS = 1 << 18, 1 << 14
_MOST_SIDES = 60
_PART = 1 << 19
"""How many characters are taken apart at a time; as objects of Python they take thirty times as much."""

_PART_OF_FRAMES = 1 << 20
"""How many characters go through polars at a time: more are no faster."""

_LONGEST = 40


@final
@dataclass
class _Run:
    """Columns that follow one another and are of one tensor, and what was read of them.

    Attributes:
        base: the name of the tensor.
        names: the columns.
        places: where in the tensor each is; empty ones for a column that is a tensor by itself.
        kinds: what their cells were: ``bool``, ``int``, ``float``, ``empty``.
        table: the values so far.
    """

    base: str
    names: list[str] = field(default_factory=list)
    places: list[tuple[int, ...]] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    table: Growing = field(default_factory=Growing)

    def values(self) -> NDArray[Any]:
        """Return all values, of shape (rows, columns), in the one dtype that has them all."""
        if "bool" in self.kinds and not self.kinds <= {"bool", "empty"}:
            raise InvalidValue(f"`{shown(self.names[0], _LONGEST)}` has both numbers and truth values")
        return self.table.taken() if self.table.latest else np.zeros((0, len(self.names)))

    def likely(self) -> np.dtype[Any] | None:
        """Return the dtype that the next rows have too, if nothing changes."""
        return None if "empty" in self.kinds else self.table.latest


def foreign_tensors(data: mmap.mmap, path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a csv, of shape (rows, 1, *size).

    Raises:
        InvalidValue: if there are columns of text.
        CorruptMemory: if it is no csv: binary, without a header, with lines of different lengths.
    """
    try:
        names, start = _header(data)
        runs = _runs(names)
        _read_rows(data, start, runs)
        return _assembled(runs)
    except (ValueError, csv.Error, OverflowError) as error:
        if isinstance(error, InvalidValue):
            raise InvalidValue(f"`{path}` is no memory that Keepfast can read: {error}") from error
        raise CorruptMemory(f"`{path}` is no csv that Keepfast can read: {error}") from error


def _header(data: mmap.mmap) -> tuple[list[str], int]:
    """Return the names of the columns, and where the rows begin."""
    data.seek(len(_BOM) if data[: len(_BOM)] == _BOM else 0)
    names = next(csv.reader(_decoded(data), strict=True), [])
    names = [name or f"Unnamed: {index}" for index, name in enumerate(names)]  # as pandas calls the index it wrote
    if not names:
        raise ValueError("its first line, which names the columns, is empty")
    if (twice := first_repeated(names)) is not None:
        raise ValueError(f"two columns are called `{shown(twice, _LONGEST)}`")
    return names, data.tell()


def _decoded(data: mmap.mmap) -> Iterator[str]:
    """Yield lines as the reader asks for them, which a quoted name may go over."""
    commas = 0
    while line := data.readline():
        commas += line.count(b",")
        if commas >= _MOST_COLUMNS:
            raise ValueError(f"it has more than {_MOST_COLUMNS} columns")
        if b"\0" in line:
            raise ValueError("it is no text")
        yield line.decode()


def _runs(names: Sequence[str]) -> list[_Run]:
    runs: list[_Run] = []
    for name in names:
        base, place = _spelled(name)
        if not (place and runs and runs[-1].base == base and len(runs[-1].places[-1]) == len(place)):
            runs.append(_Run(base))
        runs[-1].names.append(name)
        runs[-1].places.append(place)
        if len(runs) > _MOST_TENSORS:
            raise ValueError(f"it has more than {_MOST_TENSORS} tensors")
    return runs


def _spelled(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the name of a tensor and the place in it that the name of a column spells; none where it spells none."""
    base, place = name, list[int]()
    while len(place) <= _MOST_SIDES:
        before, dot, index = base.rpartition(".")
        if not (dot and before and _INDEX.fullmatch(index)):
            break
        base = before
        place.append(int(index))
    return (base, tuple(reversed(place))) if len(place) <= _MOST_SIDES else (name, ())


def _read_rows(data: mmap.mmap, start: int, runs: list[_Run]) -> None:
    """Read all rows: through polars as long as they are of the dtypes of those before, else cell by cell."""
    line, position = data[:start].count(b"\n") + 1, start
    while position < len(data):
        part = next(text.parts(data, position, len(data), _PART_OF_FRAMES))
        if not _add_frame(data[part], runs, (len(data) - start) / (part.stop - start)):
            part = next(text.parts(data, position, len(data), _PART))
            _add_cells(data[part], runs, line, (len(data) - start) / (part.stop - start))
        line += data[part].count(b"\n")
        position = part.stop


def _likely(runs: list[_Run]) -> list[Column] | None:
    dtypes = [run.likely() for run in runs]
    if any(dtype is None for dtype in dtypes):
        return None
    return [Column(run.base, dtype, len(run.names)) for run, dtype in zip(runs, dtypes, strict=True) if dtype]


def _add_frame(content: bytes, runs: list[_Run], whole: float) -> bool:
    """Add rows whose cells are all of the dtypes before them; say whether they are.

    Args:
        content: their text.
        runs: the columns.
        whole: how many times as much text there is as up to the end of these rows.
    """
    columns = None if text.is_forked() else _likely(runs)
    if columns is None:
        return False
    with contextlib.suppress(BadText):
        for run, table in zip(runs, frames.tables(content, columns), strict=True):
            run.table.add(table, whole)
        return True
    return False


def _add_cells(content: bytes, runs: list[_Run], line: int, whole: float) -> None:
    width = sum(len(run.names) for run in runs)
    if b"\0" in content:
        raise ValueError("it is no text")
    rows, numbers = [], []
    reader = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
    for row in reader:
        if len(row) != width and row:
            raise ValueError(f"line {line + reader.line_num - 1} has {len(row)} cells where {width} belong")
        if row:
            rows.append(row)
            numbers.append(line + reader.line_num - 1)
    first = 0
    for run in runs if rows else ():
        end = first + len(run.names)
        found = [cell for row in rows for cell in row[first:end]]
        try:
            values, kinds = _values(found)
        except _NoNumber as error:
            at, column = divmod(error.index, len(run.names))
            raise InvalidValue(
                f"the column `{shown(run.names[column], _LONGEST)}` holds text, "
                f"{shown(repr(found[error.index]), _LONGEST)} in line {numbers[at]}, and a memory has numbers"
            ) from error
        run.table.add(values.reshape(len(rows), len(run.names)), whole)
        run.kinds |= kinds
        first = end


@final
class _NoNumber(ValueError):
    """A cell holds text; `index` says which."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def _values(found: list[str]) -> tuple[NDArray[Any], set[str]]:
    """Return the values of cells, and of which kinds they are."""
    told = [cell for cell in found if cell]
    empty = {"empty"} if len(told) < len(found) else set[str]()
    if told and all(cell in _WORDS for cell in told):
        words = [_WORDS[cell] if cell else math.nan for cell in found]
        return np.array(words, np.float64 if empty else bool), {"bool"} | empty
    if told and not empty:
        with contextlib.suppress(ValueError, OverflowError):
            return np.array(_integers(found), np.int64), {"int"}
        with contextlib.suppress(ValueError, OverflowError):
            return np.array(_integers(found), np.uint64), {"int"}
    values = np.full(len(found), math.nan)
    for index, cell in enumerate(found):
        if cell:
            try:
                values[index] = float("_" if "_" in cell else cell)
            except ValueError:
                raise _NoNumber(index) from None
    return values, ({"float"} if told else set()) | empty


def _integers(found: list[str]) -> list[int]:
    if any("_" in cell for cell in found):  # Python takes it for a separator of digits
        raise ValueError("no number")
    return [int(cell) for cell in found]


def _assembled(runs: list[_Run]) -> dict[str, NDArray[Any]]:
    """Return each tensor, of the columns that are spelled as its elements and are all there; else each column."""
    groups: dict[tuple[str, int], list[_Run]] = {}
    for run in runs:
        groups.setdefault((run.base, len(run.places[0])), []).append(run)
    names = {name for run in runs for name in run.names}
    tensors: dict[str, NDArray[Any]] = {}
    for (base, depth), parts in groups.items():
        places = [place for part in parts for place in part.places]
        shape = tuple(max(sides) + 1 for sides in zip(*places, strict=True)) if depth else (1,)
        columns = np.concatenate([part.values() for part in parts], axis=1) if len(parts) > 1 else parts[0].values()
        if depth and (math.prod(shape) != len(places) or base in names or base in tensors):
            for index, name in enumerate(name for part in parts for name in part.names):
                tensors[name] = columns[:, index].reshape(-1, 1, 1)
        else:
            order = sorted(range(len(places)), key=places.__getitem__)
            ordered = columns if order == list(range(len(places))) else columns[:, order]
            tensors[base] = ordered.reshape(len(columns), 1, *shape)
        if len(tensors) > _MOST_TENSORS:
            raise ValueError(f"it has more than {_MOST_TENSORS} tensors")
    return tensors
