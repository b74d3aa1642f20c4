"""Values as the cells of comma-separated text, and back: every dtype exactly, floats in their shortest form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import InvalidValue

TRUE, FALSE = b"true", b"false"
_BOOLS = {b"true": True, b"false": False, b"True": True, b"False": False, b"1": True, b"0": False}


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


def is_float(dtype: np.dtype[Any]) -> bool:
    """Say whether a dtype holds floating-point numbers, with those that NumPy knows only through `ml_dtypes`."""
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float8"))


def cell_texts(values: NDArray[Any]) -> list[bytes]:
    """Return the text of each value of a one-dimensional array.

    Raises:
        InvalidValue: if the dtype has no text, as complex numbers have none.
    """
    if values.dtype == bool:
        return [TRUE if value else FALSE for value in values.tolist()]
    if values.dtype.kind == "c":
        raise InvalidValue(f"csv has no text for {values.dtype}; choose another format")
    if not is_float(values.dtype):
        return [b"%d" % value for value in values.tolist()]
    if values.dtype == np.float64 and np.isfinite(values).all():
        return [repr(value).replace("e+", "e").encode() for value in values.tolist()]
    return [float_text(value) for value in values]


def float_text(value: Any) -> bytes:
    """Return the shortest text that is read back as just this floating-point scalar."""
    number = float(value)
    if number != number or number in (np.inf, -np.inf):
        return _special_text(value)
    if value.dtype in (np.float16, np.float32, np.float64):
        text: str = str(value)
        return text.replace("e+", "e").encode()
    for digits in range(1, 18):
        text = f"{number:.{digits}g}"
        if value.dtype.type(float(text)) == value:
            return repr(float(text)).replace("e+", "e").encode()
    raise AssertionError(f"{value!r} has no exact text")


def _special_text(value: Any) -> bytes:
    number = float(value)
    if number == number:
        return b"inf" if number > 0 else b"-inf"
    plain = np.array([np.nan, -np.nan]).astype(value.dtype)
    for text, nan in ((b"nan", plain[0]), (b"-nan", plain[1])):
        if value.tobytes() == nan.tobytes():
            return text
    bits: str = value.tobytes()[::-1].hex()
    return f"nan:{bits}".encode()  # a NaN with a payload, which no other notation keeps


def parse_cells(cells: Sequence[bytes], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values of cells; an empty one is zero.

    Raises:
        BadCell: if one holds no value of the dtype.
    """
    if is_float(dtype):
        try:
            return np.array([float(cell or b"0") for cell in cells]).astype(dtype)
        except ValueError:
            pass  # a NaN with a payload, or what is no number: one by one, then
    values = np.zeros(len(cells), dtype)
    for index, cell in enumerate(cells):
        if cell:
            try:
                values[index] = _value(cell, dtype)
            except (ValueError, OverflowError, KeyError) as error:
                raise BadCell(index, cell, dtype) from error
    return values


def _value(cell: bytes, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return _BOOLS[cell]
    if not is_float(dtype):
        return int(cell)
    if cell.startswith(b"nan:"):
        return np.frombuffer(bytes.fromhex(cell[4:].decode())[::-1], dtype)[0]
    return float(cell)
