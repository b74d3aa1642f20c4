"""Numbers, compared and converted so that none becomes another one unnoticed.

A number of Python has a kind (bool, int, float, complex) and no dtype. It goes into the place of an array without
dimensions where that can hold exactly this number, and the other way round.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.codec import dtype_of
from keepfast.interfaces.backend import Difference
from keepfast.tree import dtype_name, is_array

NUMBERS = (bool, int, float, complex)
"""Python's own kinds of numbers, a bool before the int that it is too."""

_TAKES = {"bool": ("bool",), "int": ("int",), "float": ("int", "float"), "complex": ("int", "float", "complex")}
"""The kinds of numbers that go into the place of a kind as they are."""


def is_number(leaf: Any) -> bool:
    """Say whether a leaf is one number: one of Python's, or an array without dimensions."""
    return tuple(leaf.shape) == () if is_array(leaf) else isinstance(leaf, NUMBERS)


def kind_of(leaf: Any) -> str:
    """Return the kind of a number or an array: ``bool``, ``int``, ``float``, ``complex``, or "" of anything else."""
    if not is_array(leaf):
        return next((kind.__name__ for kind in NUMBERS if isinstance(leaf, kind)), "")
    return _kind_of_dtype(dtype_name(leaf))


@functools.lru_cache(maxsize=256)
def _kind_of_dtype(name: str) -> str:
    return next((kind for kind in _TAKES if name.startswith((kind, f"u{kind}", f"b{kind}"))), "")  # uint8, bfloat16


def difference(own: Any, found: Any, *, free: bool = False) -> Difference | None:
    """Return why a number of a file cannot go into a number's place as it is, or None where it can.

    Args:
        own: what the place holds: a number of Python, or an array without dimensions.
        found: the file's: a number of Python, or a NumPy array without dimensions.
        free: whether a number of Python may give way to one of another kind, as the value of a variable may.
    """
    ours, theirs = kind_of(own), kind_of(found)
    if not is_array(own):
        if theirs in _TAKES[ours] or (free and theirs != "" and "bool" not in (ours, theirs)):
            return None
        return "kind" if converted(found, own) is None else "dtype"
    if is_array(found):
        return None if dtype_name(own) == dtype_name(found) else "dtype"
    made = converted(found, own)
    if made is None:
        return "value" if theirs in _TAKES.get(ours, ()) else "kind"
    return None if theirs in _TAKES[ours] and bool(_equal(made, np.asarray(found))) else "dtype"


def converted(found: Any, own: Any) -> Any | None:
    """Return a file's number or array in the dtype, or of the kind, of what is in its place; None where it cannot be.

    Whole numbers and bools stay the numbers that they are. A float may be rounded, but neither to a whole number nor
    to an infinity.

    Args:
        found: a NumPy array of numbers, or a number of Python.
        own: what is in its place: an array or tensor of the same shape, or a number of Python.
    """
    if not kind_of(own) or not kind_of(found):
        return None
    if is_array(own):
        return _in_dtype(np.asarray(found), dtype_of(dtype_name(own)), kind_of(own))
    kind = next(each for each in NUMBERS if isinstance(own, each))
    value: Any = found.item() if is_array(found) else found
    try:
        made = kind(value)
    except (TypeError, ValueError, OverflowError):  # a complex number, a NaN or an infinity
        return None
    return made if made == value or (made != made and value != value) else None


def _in_dtype(found: NDArray[Any], dtype: np.dtype[Any], kind: str) -> NDArray[Any] | None:
    if found.dtype.hasobject:  # an integer of Python with more than 64 bits
        return _large_in_dtype(found, dtype) if kind in ("float", "complex") else None
    source = found
    if np.iscomplexobj(found) and kind != "complex":
        if np.any(found.imag != 0):
            return None
        source = found.real
    with np.errstate(all="ignore"):
        made = source.astype(dtype)
    may_be_rounded = kind_of(source) in ("float", "complex") and kind in ("float", "complex")
    return made if np.all(_as_finite(made, source) if may_be_rounded else _equal(made, source)) else None


def _large_in_dtype(found: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    try:
        with np.errstate(all="ignore"):
            made = found.astype(np.float64).astype(dtype)
    except OverflowError:
        return None
    return made if np.all(np.isfinite(made)) and np.all(_equal(made, found)) else None


def _as_finite(made: NDArray[Any], found: NDArray[Any]) -> Any:
    """Say of each number whether it stayed finite, infinite or a NaN."""
    wide = np.complex128 if np.iscomplexobj(made) or np.iscomplexobj(found) else np.float64
    one, other = made.astype(wide), found.astype(wide)
    return (np.isfinite(one) == np.isfinite(other)) & (np.isnan(one) == np.isnan(other))


def _equal(made: NDArray[Any], found: NDArray[Any]) -> Any:
    """Say of each number whether it is exactly the other, whatever the dtypes."""
    if found.dtype.hasobject:
        return [one == other for one, other in zip(made.reshape(-1).tolist(), found.reshape(-1).tolist(), strict=True)]
    if np.iscomplexobj(made) or np.iscomplexobj(found):
        return _equal(made.real, found.real) & _equal(made.imag, found.imag)
    whole = [kind_of(each) in ("bool", "int") for each in (made, found)]
    if all(whole):
        return made == found if made.dtype.kind in "bui" else made.astype(np.int64) == found
    if not any(whole):
        one, other = made.astype(np.float64), found.astype(np.float64)
        return (one == other) | (np.isnan(one) & np.isnan(other))
    number, exact = (found, made) if whole[0] else (made, found)
    return _is_whole(number.astype(np.float64), exact)


def _is_whole(number: NDArray[Any], exact: NDArray[Any]) -> Any:
    """Say of each float whether it is exactly the integer beside it."""
    wide = np.uint64 if exact.dtype.kind == "u" else np.int64
    limit = np.float64(np.iinfo(wide).max)  # rounded up, to the first that does not fit
    inside = (number >= np.float64(np.iinfo(wide).min)) & (number < limit) & (number == np.floor(number))
    return inside & (np.where(inside, number, 0).astype(wide) == exact.astype(wide))
