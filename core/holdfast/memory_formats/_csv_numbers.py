"""Lines of comma-separated text as tensors, many rows at a time.

A cell's last sixteen characters are loaded as two 64-bit words, the first character in the lowest byte, so that
digits can be masked, shifted and summed eight at a time. The text is trusted to be what Holdfast wrote (a digest says
so); cells that these steps do not handle, such as infinities and long numbers, are parsed one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from holdfast.memory_formats._csv_cells import is_float, parse_cells

U64 = np.uint64
_FLOAT_POWERS = 10.0 ** np.arange(16)
_LAST = np.array([((1 << 64) - 1) ^ ((1 << 64 - 8 * min(count, 8)) - 1) for count in range(17)], U64)
"""Masks of the last characters of a word, by how many they are."""

_EXACT_DIGITS = 15
"""How many digits a whole number may have for double precision to hold it for certain."""

_EXPONENTS = (U64(40), U64(32), U64(24))
"""Where in the last word an ``e`` may be: before two digits, or before a sign or a third one, or before both."""

_LONGEST_FRACTION = 12
"""How many digits after the point are handled: more than the shortest text of a single-precision number has."""

_LONGEST_WHOLE = 7
"""How many digits before the point are handled: few enough for the shortest text of any number of nine digits."""


@final
@dataclass(frozen=True)
class Column:
    """A tensor among the columns of a table: its name, its dtype, and how many columns it has."""

    name: str
    dtype: np.dtype[Any]
    width: int


def tables(text: NDArray[np.uint8], start: int, stop: int, columns: list[Column]) -> list[NDArray[Any]]:
    """Return the values of whole lines.

    Args:
        text: the file; there are at least 16 characters before `start`.
        start: where the first line begins.
        stop: where the last one ends, behind its line feed.
        columns: the tensors, side by side.

    Returns:
        An array of shape (rows, width) for each of the columns.
    """
    edges = _edges(text, start, stop, columns)
    flags = edges[0].shape[0] * sum(column.width for column in columns if column.dtype.kind == "b")
    exponents = np.count_nonzero(text[start:stop] == ord("e")) != flags  # every true and false has an e too
    values, first = [], 0
    for column in columns:
        cells = slice(first, first + column.width)
        begin, point, end = (edge[:, cells].reshape(-1) for edge in edges)
        values.append(_values(text, begin, point, end, column, exponents=exponents).reshape(-1, column.width))
        first += column.width
    return values


def _edges(
    text: NDArray[np.uint8], start: int, stop: int, columns: list[Column]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return where each cell begins, has its decimal point, and ends, each of shape (rows, cells).

    The point of a cell without one is its end.
    """
    part = text[start:stop]
    is_separator = part < ord("-")  # no other character that cells hold comes before it
    per_cell = np.concatenate([np.full(column.width, 1 + is_float(column.dtype)) for column in columns])
    marks = np.flatnonzero(is_separator | (part == ord(".")))
    marks += start
    if len(marks) == np.count_nonzero(part == ord("\n")) * per_cell.sum():
        # Only floating-point cells have points, one each if so many were found: points and ends alternate as expected.
        turns = marks.reshape(-1, per_cell.sum())
        last = np.cumsum(per_cell) - 1
        ends, points = turns.take(last, axis=1), turns.take(last - (per_cell == 2), axis=1)
    else:
        flat = np.flatnonzero(is_separator) + start
        places = np.append(np.flatnonzero(part == ord(".")) + start, stop)
        begins = np.append(start, flat[:-1] + 1)
        ends = flat.reshape(-1, len(per_cell))
        points = np.minimum(places[np.searchsorted(places, begins)], flat).reshape(ends.shape)
    begins = np.empty(ends.size, np.intp)
    begins[0] = start
    np.add(ends.reshape(-1)[:-1], 1, out=begins[1:])
    return begins.reshape(ends.shape), points, ends


def _values(
    text: NDArray[np.uint8],
    begin: NDArray[np.intp],
    point: NDArray[np.intp],
    end: NDArray[np.intp],
    column: Column,
    *,
    exponents: bool,
) -> NDArray[Any]:
    if column.dtype.kind == "b":
        truths: NDArray[Any] = text[begin] == ord("t")
        return truths
    if is_float(column.dtype):
        values, handled = _floats(text, begin, point, end, column.dtype, exponents=exponents)
        if not handled.all():
            unknown = (text[begin] == ord("n")) & (end - begin == len("nan"))
            values[unknown] = np.nan
            handled |= unknown
    else:
        values, handled = _integers(text, begin, end, column.dtype)
    if not handled.all():
        others = np.flatnonzero(~handled)
        cells = [text[start:stop].tobytes() for start, stop in zip(begin[others], end[others], strict=True)]
        values[others] = parse_cells(cells, column.dtype)
    return values


def _last_sixteen(text: NDArray[np.uint8], end: NDArray[np.intp]) -> NDArray[np.uint64]:
    """Return the sixteen characters before each place, as two words, of shape (n, 2)."""
    anywhere = as_strided(text[:16].view("V16"), (len(text) - 15,), (1,))
    return anywhere[end - 16].view(U64).reshape(-1, 2)


def _eight_digits(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the number whose digits a word holds; characters masked out count as zeros before it."""
    word = word & U64(0x0F0F0F0F0F0F0F0F)
    word *= U64(10 * 256 + 1)
    word >>= U64(8)
    word &= U64(0x00FF00FF00FF00FF)
    word *= U64(100 * 65536 + 1)
    word >>= U64(16)
    word &= U64(0x0000FFFF0000FFFF)
    word *= U64(10000 * (1 << 32) + 1)
    word >>= U64(32)
    return word


def _floats(
    text: NDArray[np.uint8],
    begin: NDArray[np.intp],
    point: NDArray[np.intp],
    end: NDArray[np.intp],
    dtype: np.dtype[Any],
    *,
    exponents: bool,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the values of cells, and which of them are handled here: digits, a point, and at most 12 digits."""
    words = _last_sixteen(text, end)
    low, high = words[:, 0], np.ascontiguousarray(words[:, 1])
    negative = text[begin] == ord("-")
    places = end - point
    places -= 1
    before = point - begin
    before -= negative
    handled = places.view(U64) <= U64(_LONGEST_FRACTION)  # as unsigned numbers, negative ones are large
    handled &= before.view(U64) <= U64(_LONGEST_WHOLE)
    handled &= before + places <= _EXACT_DIGITS
    if exponents:
        for place in _EXPONENTS if dtype.itemsize == 8 else _EXPONENTS[:2]:
            handled &= high >> place & U64(0xFF) != U64(ord("e"))
    if not handled.all():
        np.clip(places, 0, _LONGEST_FRACTION, out=places)
    number = _eight_digits(high & _LAST.take(places)).view(np.int64).astype(np.float64)
    longer = np.flatnonzero(places > 8)
    if len(longer):
        number[longer] += _eight_digits(low[longer] & _LAST.take(places[longer] - 8)) * 1e8
    power = _FLOAT_POWERS.take(places)
    number += _whole_part(text, point, before) * power
    number /= power
    np.negative(number, out=number, where=negative)
    with np.errstate(all="ignore"):
        return number.astype(dtype), handled


def _whole_part(text: NDArray[np.uint8], point: NDArray[np.intp], digits: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the number before each point, which has so many digits."""
    number = (text[point - 1] & np.uint8(0x0F)).astype(np.float64)
    for more in range(1, min(int(digits.max(initial=0)), _LONGEST_WHOLE)):
        longer = np.flatnonzero(digits > more)
        number[longer] += (text[point[longer] - 1 - more] & np.uint8(0x0F)) * 10.0**more
    return number


def _integers(
    text: NDArray[np.uint8], begin: NDArray[np.intp], end: NDArray[np.intp], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the values of cells, and which of them are handled here: those of at most 16 digits."""
    words = _last_sixteen(text, end)
    negative = text[begin] == ord("-")
    digits = end - begin - negative
    number = _eight_digits(words[:, 1] & _LAST.take(np.minimum(digits, 8)))
    longer = np.flatnonzero(digits > 8)
    if len(longer):
        rest = _LAST.take(np.minimum(digits[longer] - 8, 8))
        number[longer] += _eight_digits(words[longer, 0] & rest) * U64(100_000_000)
    signed = number.view(np.int64)
    np.negative(signed, out=signed, where=negative)
    return signed.astype(dtype), digits <= 16
