"""Arrays that may be larger than the machine's memory."""

from __future__ import annotations

import math
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = 1 << 28
"""From how many bytes on an array lies in a file, which the system keeps in memory only as far as there is room."""


def spacious_zeros(shape: tuple[int, ...], dtype: np.dtype[Any], large: int = _LARGE) -> NDArray[Any]:
    """Return an array of zeros; a large one is backed by an unnamed temporary file that vanishes with it."""
    if math.prod(shape) * dtype.itemsize < large:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="holdfast-") as file:
        return np.memmap(file, dtype, "w+", shape=shape)
