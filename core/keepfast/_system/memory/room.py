"""Memory for what is read, or copied, once: together in blocks, for new pages cost a fault each, and large ones few."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_WORTH_JOINING = 1 << 16
"""From how many bytes on what is taken stands in a block, with what is taken next."""

_BLOCK = (1 << 23) - (1 << 13)
"""How large a block is at most: with what the allocator puts before it, whole pages of the largest kind, for which
NumPy asks. Whatever of it is kept keeps all of it."""

_ALIGNMENT = 64
"""What addresses are multiples of: JAX takes over memory of these alone."""

_used: ContextVar[Room | None] = ContextVar("room", default=None)


@final
class _Owner(np.ndarray[Any, Any]):
    """The owner of memory of a room, by which arrays over it are known."""

    __slots__ = ()


@final
class Room:
    """Memory that is taken piece by piece, each for an array of its own, and given back with the last of these.

    Args:
        nbytes: how many bytes are taken at most, all together.
    """

    def __init__(self, nbytes: int = sys.maxsize) -> None:
        self._left, self._block, self._begin = nbytes, _aligned(0), 0

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Return memory for so many bytes, with whatever is in it.

        Raises:
            MemoryError: if there is no more.
        """
        self._left -= nbytes
        if nbytes < _WORTH_JOINING:
            return _Owner(nbytes, np.uint8).view(np.ndarray)
        if nbytes >= _BLOCK // 2:
            return _aligned(nbytes)
        if self._begin + nbytes > len(self._block):
            self._block, self._begin = _aligned(min(nbytes + max(0, self._left), _BLOCK)), 0
        begin, self._begin = self._begin, self._begin + nbytes + -nbytes % _ALIGNMENT
        return self._block[begin : begin + nbytes]

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Have `memory_for` take from here meanwhile, in this thread."""
        token = _used.set(self)
        try:
            yield
        finally:
            _used.reset(token)


def memory_for(nbytes: int) -> NDArray[np.uint8]:
    """Return memory for a copy of so many bytes, from the room that is in use."""
    return (_used.get() or Room(nbytes)).take(nbytes)


def is_of_a_room(array: Any) -> bool:
    """Say whether an array lies in memory that was taken from a room."""
    while array is not None and type(array) is not _Owner:
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    return array is not None


def _aligned(nbytes: int) -> NDArray[np.uint8]:
    memory = _Owner(nbytes + _ALIGNMENT, np.uint8)
    begin = -memory.__array_interface__["data"][0] % _ALIGNMENT
    return memory[begin : begin + nbytes].view(np.ndarray)
