"""Values as the cells of comma-separated text, and back: every dtype exactly, floats in their shortest form.

What polars has no exact text for is written, and what it cannot tell the value of is read, cell by cell; and so is
everything in a forked child, where polars cannot be used. Nothing is written that other tools take for a word.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue

_BOOLS = {b"true": True, b"false": False, b"True": True, b"False": False, b"1": True, b"0": False}


@final
@dataclass(frozen=True)
class Column:
    """A tensor among the columns of a table: its name, its dtype, and how many columns it has."""

    name: str
    dtype: np.dtype[Any]
    width: int


@final
class BadText(ValueError):
    """Text holds no values of the dtypes that belong there."""


@final
class BadCell(ValueError):
    """A cell holds no value of its column's dtype.

    Args:
        index: which of the cells given.
        text: what it holds.
    """

    def __init__(self, index: int, text: bytes, dtype: np.dtype[Any]) -> None:
        super().__init__(f"{text!r} is no {dtype}")
        self.index, self.text = index, text


def lines(tensors: Sequence[NDArray[Any]]) -> bytes:
    """Return rows as lines.

    Args:
        tensors: of shape (rows, width), side by side.

    Raises:
        InvalidValue: if a dtype has no text.
    """
    cells = [np.array(cell_texts(tensor.reshape(-1)), object).reshape(tensor.shape) for tensor in tensors]
    return "".join(",".join(row) + "\n" for row in np.hstack(cells).tolist()).encode()


def tables(text: bytes, columns: Sequence[Column]) -> list[NDArray[Any]]:
    """Return the values of whole lines: an array of shape (rows, width) for each of the columns.

    Raises:
        BadText: if a line has too few cells or too many, or a cell holds no value of its column's dtype.
    """
    rows = [line.split(b",") for line in text.removesuffix(b"\n").split(b"\n")]
    total = sum(column.width for column in columns)
    for row in rows:
        if len(row) != total:
            raise BadText(f"has {len(row)} cells where {total} belong")
    values, first = [], 0
    for column in columns:
        cells = [cell for row in rows for cell in row[first : first + column.width]]
        try:
            values.append(parse_cells(cells, column.dtype).reshape(len(rows), column.width))
        except BadCell as bad:
            raise BadText(f"has, as `{column.name}.{bad.index % column.width}`, {bad}") from bad
        first += column.width
    return values


def is_float(dtype: np.dtype[Any]) -> bool:
    """Say whether a dtype holds floating-point numbers, with those that NumPy knows only through `ml_dtypes`."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float8"))


def cell_texts(values: NDArray[Any]) -> list[str]:
    """Return the text of each value of a one-dimensional array.

    Raises:
        InvalidValue: if the dtype has no text, as complex numbers have none.
    """
    if values.dtype == bool:
        return ["true" if value else "false" for value in values.tolist()]
    if values.dtype.kind == "c":
        raise InvalidValue(f"csv has no text for {values.dtype}; choose another format")
    if not is_float(values.dtype):
        return [str(value) for value in values.tolist()]
    return [float_text(value) for value in values]


def float_text(value: Any) -> str:
    """Return the shortest text that is read back as just this floating-point scalar; NaNs keep their sign alone."""
    number = float(value)
    if number != number or number in (np.inf, -np.inf):
        return _special_text(value)
    if value.dtype in (np.float16, np.float32, np.float64):
        return str(value)
    for digits in range(1, 18):
        text = f"{number:.{digits}g}"
        if value.dtype.type(float(text)) == value:
            return repr(float(text))
    raise AssertionError(f"{value!r} has no exact text")


def _special_text(value: Any) -> str:
    """Return the text that other tools know too: polars takes `NaN` for a number, and `nan` for a word."""
    number = float(value)
    if number == number:
        return "inf" if number > 0 else "-inf"
    return "-NaN" if np.array(value).reshape(1).view(np.uint8)[-1 if sys.byteorder == "little" else 0] >> 7 else "NaN"


def own_bits(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]] | None:
    """Return the NaNs that carry bits of their own, which no text keeps: their places and these bits."""
    if not is_float(values.dtype) or values.dtype.itemsize > 8:
        return None
    with np.errstate(invalid="ignore"):  # bfloat16 complains of NaNs that signal
        places = np.flatnonzero(np.isnan(values))
    if not places.size:
        return None
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    bits = np.ascontiguousarray(values[places]).view(unsigned)
    own = ~np.isin(bits, np.array([np.nan, -np.nan]).astype(values.dtype).view(unsigned))
    return (places[own], bits[own]) if own.any() else None


def parse_cells(cells: Sequence[bytes], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values of cells.

    Raises:
        BadCell: if one holds no value of the dtype.
    """
    if is_float(dtype) and not any(b"_" in cell for cell in cells):
        try:
            return _rounded_once(np.array([float(cell) for cell in cells]), cells, dtype)
        except (ValueError, ArithmeticError):
            pass  # one by one, then, to tell which is no number
    values = np.zeros(len(cells), dtype)
    for index, cell in enumerate(cells):
        try:
            values[index] = _value(cell, dtype)
        except (ValueError, ArithmeticError, KeyError) as error:
            raise BadCell(index, cell, dtype) from error
    return values


def _value(cell: bytes, dtype: np.dtype[Any]) -> Any:
    if b"_" in cell:  # Python takes it for a separator of digits
        raise ValueError("no number")
    if dtype.kind == "b":
        return _BOOLS[cell]
    if not is_float(dtype):
        return int(cell)
    return _rounded_once(np.array([float(cell)]), [cell], dtype)[0]


def _rounded_once(numbers: NDArray[np.float64], cells: Sequence[bytes], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers in a dtype that may be narrower, rounded as if from the texts themselves.

    Where a text lies next to the middle of two values of single precision, as ``7.038531e-26`` does, double precision
    takes it for the middle; a step towards the text keeps it on its side.
    """
    if dtype.itemsize < numbers.itemsize:
        for index in np.flatnonzero(numbers.view(np.uint64) & _BELOW_THE_MIDDLE == 0).tolist():
            number, cell = numbers[index], cells[index]
            if number and np.isfinite(number):  # 0 is in the middle of nothing
                side = Decimal(cell.decode()).compare(Decimal(number.item()))
                numbers[index] = np.nextafter(number, math.copysign(math.inf, side)) if side else number
    with np.errstate(over="ignore"):  # what is too large is infinite, in polars too
        return numbers.astype(dtype)


_BELOW_THE_MIDDLE = np.uint64((1 << 28) - 1)
"""The bits of a double-precision number that are 0 where it is in the middle of two of single precision."""
