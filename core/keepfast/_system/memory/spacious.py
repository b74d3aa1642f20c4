"""Arrays that may be larger than the machine's memory."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast._system.disk.optional import attempt
from keepfast.errors import WriteFailed

_LARGE = 1 << 28
"""From how many bytes on arrays lie in files, which the system keeps in memory only as far as there is room."""

Layout = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""The shape and the dtype of arrays, by name."""


def spacious_tensors(layout: Layout, rows: int | None = None, large: int = _LARGE) -> dict[str, NDArray[Any]]:
    """Return arrays of zeros; if they are large together, each is backed by an unnamed file that vanishes with it.

    Args:
        layout: what they are.
        rows: how many of their rows, from the first on, will be written; no room is taken for the others.
        large: from how many bytes on they are large.

    Raises:
        WriteFailed: if there is no room for such a file among the temporary ones.
    """
    nbytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in layout.values())
    return {
        name: spacious_zeros(shape, dtype, rows, large if nbytes < large else 1)
        for name, (shape, dtype) in layout.items()
    }


def spacious_zeros(
    shape: tuple[int, ...], dtype: np.dtype[Any], rows: int | None = None, large: int = _LARGE
) -> NDArray[Any]:
    """Return an array of zeros; a large one is backed by a file, as `spacious_tensors` does."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < large:
        return np.zeros(shape, dtype)
    taken = nbytes if rows is None else min(nbytes, rows * math.prod(shape[1:]) * dtype.itemsize)
    try:
        with tempfile.TemporaryFile(prefix="keepfast-") as file:
            _lengthen(file.fileno(), nbytes)
            attempt("reserved space", lambda: _reserve(file.fileno(), taken), lambda: None)
            return attempt(
                "memory maps",
                lambda: np.memmap(file, dtype, "r+", shape=shape),
                lambda: np.zeros(shape, dtype),
            )
    except OSError as error:
        raise WriteFailed(
            f"`{tempfile.gettempdir()}` has no room for {nbytes:,} bytes that are read into it "
            f"({error.strerror or error}); let TMPDIR name a directory that has"
        ) from error


def _reserve(descriptor: int, nbytes: int) -> None:
    if hasattr(os, "posix_fallocate") and nbytes:  # a sparse file would end the process where the disk is full
        os.posix_fallocate(descriptor, 0, nbytes)


def _lengthen(descriptor: int, nbytes: int) -> None:
    os.ftruncate(descriptor, nbytes)
