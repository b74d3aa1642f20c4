"""Lines of comma-separated text through polars, many at a time.

polars writes floats in their shortest exact form and reads them exactly, those of single precision without a detour
through double precision. What it would not give back bit by bit, negative NaNs and floats of 16 bits, it is
given as text.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from keepfast import codec
from keepfast._system.disk.bounded import require_room
from keepfast.formats.memories.csv.cells import BadText, Column, cell_texts, is_float

_ROOM = 1 << 22
"""How many bytes of memory polars takes beside what it reads, about."""

try:
    pl.Series(dtype=pl.Int64)
except NameError as error:  # polars passes over it that its own library was not loaded
    raise ImportError("polars cannot be loaded, as where there is not the memory for it", name="polars") from error


def lines(tensors: Sequence[NDArray[Any]]) -> memoryview:
    """Return rows as lines.

    Args:
        tensors: of shape (rows, width), side by side; no width is 0.

    Raises:
        InvalidValue: if a dtype has no text.
    """
    text = io.BytesIO()
    frames = [_frame(tensor, f"{index}.") for index, tensor in enumerate(tensors)]
    pl.concat(frames, how="horizontal").write_csv(text, include_header=False, quote_style="never")
    return text.getbuffer()


def tables(text: bytes, columns: Sequence[Column]) -> list[NDArray[Any]]:
    """Return the values of whole lines: an array of shape (rows, width) for each of the columns.

    Raises:
        BadText: if polars cannot tell the value of a cell, which may have one nevertheless.
        MemoryError: if there is not the memory, at which polars would end the process.
    """
    row = sum(column.width * max(column.dtype.itemsize, 4) for column in columns)
    require_room(_ROOM + 2 * len(text) + 4 * row * text.count(b"\n"))
    dtypes = [_dtype_read(column.dtype) for column in columns for _ in range(column.width)]
    schema = {str(index): dtype for index, dtype in enumerate(dtypes)}
    try:
        frame = pl.read_csv(text, has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError as error:
        raise BadText(str(error)) from error
    if any(series.null_count() for series in frame.get_columns()):
        raise BadText("a cell is missing or empty")
    values, first = [], 0
    for column in columns:
        values.append(frame[:, first : first + column.width].to_numpy().astype(column.dtype, copy=False))
        first += column.width
    return values


def _frame(tensor: NDArray[Any], prefix: str) -> pl.DataFrame:
    """Return a column for each number that a sample has in a tensor."""
    cells = _cells(np.ascontiguousarray(tensor).reshape(-1)).reshape(tensor.shape)
    return cells.arr.to_struct(fields=[f"{prefix}{column}" for column in range(tensor.shape[1])]).struct.unnest()


def _cells(values: NDArray[Any]) -> pl.Series:
    """Return values as they are, or as texts where polars would write them otherwise than exactly."""
    if values.dtype.kind in "biu":
        return pl.Series(values)
    if values.dtype in (np.float32, np.float64):
        cells, nans = pl.Series(values), np.flatnonzero(np.isnan(values))
        negative = nans[np.signbit(values[nans])]  # whose sign polars does not write
        return cells.cast(pl.String).scatter(negative, ["-NaN"] * negative.size) if negative.size else cells
    if is_float(values.dtype) and values.dtype.itemsize <= 2:
        bits = values.view(f"u{values.dtype.itemsize}")
        return _texts_of_all(str(values.dtype)).gather(bits.astype(np.uint32))
    return pl.Series(cell_texts(values), dtype=pl.String)


@functools.cache
def _texts_of_all(name: str) -> pl.Series:
    """Return the text of every value that a dtype of one or two bytes has, by its bits."""
    dtype = codec.dtype_of(name)
    bits = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}")
    return pl.Series(cell_texts(bits.view(dtype)), dtype=pl.String)


def _dtype_read(dtype: np.dtype[Any]) -> pl.DataType:
    """Return the dtype that holds a column's values exactly while they are read."""
    wide_enough = np.dtype(np.float32) if is_float(dtype) and dtype.itemsize < 4 else dtype
    return pl.Series(np.empty(0, wide_enough)).dtype
