"""Tensors that a pickle describes, and how their numbers lie in storages that are records of their own."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from keepfast.codec import check_shape, dtype_of

known_dtype = functools.cache(dtype_of)
"""The dtype of a name, of which there are few, and which are asked for with every tensor."""


_Placed = tuple[np.dtype[Any], int, tuple[int, ...] | None]


@final
@dataclass(slots=True, eq=False)
class TensorLayout:
    """What a pickle says of a tensor beside which storage is its own: most tensors have it in common with others.

    Attributes:
        nbytes: the storage's size.
        dtype: the tensor's dtype, as NumPy names it.
        offset: where it begins in the storage, in elements.
        shape: its shape.
        strides: its strides, in elements.
        conjugate: whether the stored numbers are the complex conjugates of the tensor's.
        negative: whether they are its negatives.
    """

    nbytes: int
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conjugate: bool = False
    negative: bool = False
    _placed: _Placed | None = None

    def resolved(self, storage: NDArray[np.uint8], *, swapped: bool = False) -> NDArray[np.uint8]:
        """Return a storage with the tensor's own numbers: itself, unless it holds their conjugates or negatives.

        It is the storage that is changed, not the tensor, whose strides can make any number of elements of one.

        Args:
            storage: what is stored.
            swapped: whether its numbers have the other byte order than those of this machine.
        """
        if not (self.conjugate or self.negative or swapped):
            return storage
        dtype = known_dtype(self.dtype)
        numbers = storage[: storage.nbytes // dtype.itemsize * dtype.itemsize].view(dtype)
        numbers = numbers.byteswap() if swapped else numbers
        numbers = numbers.conj() if self.conjugate else numbers
        return (-numbers if self.negative else numbers).view(np.uint8)

    def over(self, storage: NDArray[np.uint8]) -> NDArray[Any]:
        """Return a tensor over its storage, which is `resolved`, sharing the memory.

        Raises:
            ValueError: if it does not lie within the storage.
        """
        if (placed := self._placed) is None:
            placed = self._placed = _place(self.dtype, self.offset, self.shape, self.strides)
        dtype, start, strides = placed
        return np.ndarray(self.shape, dtype, None if strides is None else storage, start, strides)


@final
@dataclass(slots=True, eq=False)
class StoredTensor:
    """A tensor that a pickle describes, before its storage is read.

    Attributes:
        key: the storage's key: its record is ``data/{key}``.
        layout: how it lies there.
    """

    key: str
    layout: TensorLayout


@functools.lru_cache(maxsize=1024)
def _place(name: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> _Placed:
    """Return a tensor's dtype, and where its numbers begin and how far apart they are, in bytes; None of no numbers.

    Raises:
        ValueError: if that is nowhere.
    """
    dtype = known_dtype(name)
    if min((offset, *shape, *strides), default=0) < 0 or len(shape) != len(strides):
        raise ValueError(f"a tensor has the shape {shape} and the strides {strides}")
    check_shape(shape)
    if 0 in shape:
        return dtype, 0, None
    return dtype, offset * dtype.itemsize, tuple(stride * dtype.itemsize for stride in strides)


@final
class StorageReference(NamedTuple):
    """What a persistent reference describes.

    Attributes:
        key: the storage's key.
        nbytes: its size.
        dtype: the dtype of its class, or the class where NumPy has no such dtype.
    """

    key: str
    nbytes: int
    dtype: str
