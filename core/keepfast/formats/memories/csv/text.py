"""Whole lines of text: through polars, or cell by cell where it cannot be used."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from keepfast.formats.memories.csv import cells, frames
from keepfast.formats.memories.csv.cells import BadText, Column

PART = 1 << 22
"""How many characters are turned into values at a time."""

_PROCESS = os.getpid()
"""Where polars was imported, whose threads do its work: a forked child lacks them and would wait forever."""


def is_forked() -> bool:
    """Say whether polars cannot be used here."""
    return os.getpid() != _PROCESS


def lines(tensors: Sequence[NDArray[Any]]) -> bytes | memoryview:
    """Return rows as lines; tensors are of shape (rows, width), side by side.

    Raises:
        InvalidValue: if a dtype has no text.
    """
    return cells.lines(tensors) if is_forked() else frames.lines(tensors)


def tables(text: bytes, columns: Sequence[Column]) -> list[NDArray[Any]]:
    """Return the values of whole lines: an array of shape (rows, width) for each of the columns.

    Raises:
        BadText: if a line has too few cells or too many, or a cell holds no value of its column's dtype.
    """
    if not is_forked():
        with contextlib.suppress(BadText):  # told by its cell below
            return frames.tables(text, columns)
    return cells.tables(text, columns)


def parts(data: mmap.mmap, start: int, stop: int, size: int) -> Iterator[slice]:
    """Yield where whole lines begin and end, some of them at a time."""
    while start < stop:
        end = stop if stop - start <= size else data.rfind(b"\n", start, start + size) + 1
        end = end or data.find(b"\n", start) + 1 or stop  # a line longer than a part
        yield slice(start, end)
        start = end
