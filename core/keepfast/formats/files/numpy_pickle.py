"""Arrays of NumPy and JAX inside a pickle, read without NumPy's or JAX's own functions for it.

A pickled array is a call of ``numpy.core.multiarray._reconstruct``, changed by a state ``(version, shape, dtype,
in Fortran order, bytes)``; its dtype is a call of ``numpy.dtype``, changed by a state whose second part is the byte
order. An array of JAX is a call of ``jax._src.array._reconstruct_array`` with the parts of an array of NumPy.
"""

from __future__ import annotations

import math
import operator
import pickle
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.tree import Unread

_LETTERS = tuple("biufc")
"""How the names of dtypes begin that are numbers; the memory of others may be anything."""


@final
class PickledArray:
    """An array that a pickle describes, in two steps."""

    __slots__ = ("_array", "unread")

    def __init__(self) -> None:
        self._array: NDArray[Any] | None = None
        self.unread: Unread | None = None
        """What stands for it where it is of something else than numbers."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, in_fortran_order, content = state
        dimensions = tuple(map(operator.index, shape))
        kind = _dtype_of(dtype)
        if isinstance(kind, Unread):
            self.unread = Unread(f"numpy.ndarray of {kind.name}")
            return
        if not isinstance(content, bytes) or min(dimensions, default=0) < 0:
            raise pickle.UnpicklingError("an array is made of something else than bytes")
        if math.prod(dimensions) * kind.itemsize != len(content):
            raise pickle.UnpicklingError(f"an array of shape {dimensions} has {len(content)} bytes")
        flat = np.frombuffer(content, kind).astype(kind.newbyteorder("="))
        self._array = flat.reshape(dimensions, order="F" if in_fortran_order else "C")

    @property
    def array(self) -> NDArray[Any]:
        """Return the array.

        Raises:
            ValueError: if the pickle said nothing of what is in it.
        """
        if self._array is None:
            raise ValueError("an array has no content")
        return self._array


@final
class PickledDtype:
    """A dtype that a pickle describes, in two steps; of one that is of no numbers, its name."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_how: Any) -> None:
        if not isinstance(name, str | Unread):
            raise pickle.UnpicklingError("a dtype has no name")
        self.dtype: np.dtype[Any] | Unread = name if isinstance(name, Unread) else Unread(name)
        if isinstance(name, str) and name[:1] in _LETTERS and name[1:].isdigit():
            self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if isinstance(self.dtype, Unread):
            return
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a dtype has no byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


def _dtype_of(dtype: Any) -> np.dtype[Any] | Unread:
    if isinstance(dtype, Unread):
        return dtype
    if not isinstance(dtype, PickledDtype):
        raise pickle.UnpicklingError("an array has no dtype")
    return dtype.dtype


def _reconstruct(_kind: Any, _shape: Any, _dtype: Any) -> PickledArray:
    return PickledArray()


def _scalar(dtype: Any, content: Any) -> PickledArray:
    made = PickledArray()
    made.__setstate__((1, (), dtype, False, content))
    return made


def _of_jax(_function: Any, _arguments: Any, state: Any, _aval: Any) -> PickledArray:
    made = PickledArray()
    made.__setstate__(state)
    return made


def _no_bytes() -> bytes:
    return b""


NUMPY_AND_JAX: dict[str, Any] = {
    "builtins.bytes": _no_bytes,  # of an array without elements
    "numpy.ndarray": "numpy.ndarray",
    "numpy.dtype": PickledDtype,
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    "jax._src.array._reconstruct_array": _of_jax,
}
"""What arrays call in a pickle, with what is called instead."""
