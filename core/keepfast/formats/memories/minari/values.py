"""How Minari's HDF5 holds the values and the names of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.formats.memories.header import plain_dtype

_PIECE = 1 << 24
"""How many bytes are compared at once."""

_NAN = np.uint32(0x7FC00000)
"""The bits of a float32 that is no number; its lower ones are free."""


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that values are stored as: float32 for the small floats of `ml_dtypes`, which HDF5 lacks."""
    return np.dtype(np.float32) if _is_small_float(dtype) else plain_dtype(dtype)


def exactly(values: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Say whether values can be stored as another dtype and come back bit for bit."""
    rows = max(1, _PIECE * len(values) // max(1, values.nbytes))
    for start in range(0, len(values), rows):
        part = stored(values[start : start + rows])
        with np.errstate(all="ignore"):  # what overflows is found by comparing
            back = part.astype(dtype).astype(part.dtype)
        if back.tobytes() != part.tobytes():
            return False
    return True


def stored(values: NDArray[Any]) -> NDArray[Any]:
    """Return values as they are stored: equal ones; what is no number carries its bits in the lower bits."""
    if not _is_small_float(values.dtype):
        return np.ascontiguousarray(values).view(plain_dtype(values.dtype))
    with np.errstate(invalid="ignore"):
        wide = values.astype(np.float32, order="C")
    unknown = np.isnan(wide)
    wide.view(np.uint32)[unknown] = _NAN | _bits(values)[unknown]
    return wide


def restored(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values that `stored` was given, bit for bit."""
    if not _is_small_float(dtype):
        return values.view(dtype)
    with np.errstate(invalid="ignore"):
        narrow = values.astype(dtype, order="C")
    unknown = np.isnan(values)
    _bits(narrow)[unknown] = (values.view(np.uint32)[unknown] & ~_NAN).astype(plain_dtype(dtype))
    return narrow


def member_name(name: str) -> str:
    """Return the name of a tensor without what HDF5 reads as a path, or as its end."""
    if name in {"", "."}:
        return f"%{name}"
    for sign in "%/\0":
        name = name.replace(sign, f"%{ord(sign):02X}")
    return name


def _is_small_float(dtype: np.dtype[Any]) -> bool:
    return dtype.isbuiltin == 2 and "float" in dtype.name


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values).view(plain_dtype(values.dtype))
