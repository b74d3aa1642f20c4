"""Which numbers a dtype holds: decided by dtypes alone, and by values only where they are Python's or NumPy's."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOATS: dict[str, tuple[int, int]] = {
    "float64": (53, 1024),
    "float32": (24, 128),
    "bfloat16": (8, 128),
    "float16": (11, 16),
    "float8_e5m2": (3, 16),
    "float8_e5m2fnuz": (3, 16),
    "float8_e4m3": (4, 8),
    "float8_e4m3fn": (4, 9),
    "float8_e4m3fnuz": (4, 8),
    "float8_e4m3b11fnuz": (4, 5),
    "float8_e3m4": (5, 4),
    "float8_e8m0fnu": (1, 128),
}
"""By the name of a floating-point dtype: how many bits of a whole number it keeps, and the power of two above all."""

_COMPLEX = {"complex64": "float32", "complex128": "float64"}

_ROUNDED = {"float64": 128}
"""The power of two up to which values count: those of float64 are rounded to float32, as in any computation."""


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype of any framework: ``float32``, ``bfloat16``, ``bool``."""
    return str(getattr(dtype, "name", None) or str(dtype).rpartition(".")[2])


def whole_numbers(dtype: str) -> tuple[int, int] | None:
    """Return the least and the greatest value of a dtype of whole numbers, or None if it is none."""
    if dtype == "bool":
        return 0, 1
    found = re.fullmatch(r"(u?)int(\d+)", dtype)
    if found is None:
        return None
    bits = int(found[2]) - (not found[1])
    return (0 if found[1] else -(1 << bits)), (1 << bits) - 1


@functools.cache
def holds(own: str, given: str) -> bool:
    """Say whether a dtype holds every value of another; fractions are rounded to it, where its range is as wide."""
    if own == given or given == "bool":
        return True
    whole = whole_numbers(given)
    if whole is not None:
        return holds_range(own, *whole)
    if given in _COMPLEX:
        return own in _COMPLEX
    own_range, range_ = _range(_COMPLEX.get(own, own)), _ROUNDED.get(given, _range(given))
    return 0 < range_ <= own_range


def _range(dtype: str) -> int:
    return _FLOATS.get(dtype, (0, 0))[1]


@functools.cache
def holds_range(own: str, low: int, high: int) -> bool:
    """Say whether a dtype holds every whole number of a range."""
    limits = whole_numbers(own)
    if limits is None:
        bits, power = _FLOATS.get(_COMPLEX.get(own, own), (0, 0))
        greatest = 1 << min(bits, power)
        limits = -greatest, greatest
    return limits[0] <= low and high <= limits[1]


def holds_values(own: str, values: NDArray[Any]) -> bool:
    """Say whether a dtype holds the values of an array; fractions are rounded to it, where they are in its range."""
    if holds(own, values.dtype.name) or not values.size:
        return True
    if values.dtype.kind in "iu":
        return holds_range(own, int(values.min()), int(values.max()))
    power = _range(own)
    if not power or whole_numbers(own) is not None or values.dtype.kind != "f":
        return False
    finite = np.abs(values[np.isfinite(values)])
    return bool(finite.max(initial=0) < 2.0 ** min(power, 1023))
