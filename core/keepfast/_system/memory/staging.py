"""Memory that copies go to again and again: fresh pages cost several times what a copy into warm ones does."""

from __future__ import annotations

import contextlib
import mmap
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_WORTH_KEEPING = 1 << 16
"""From how many bytes on a copy has memory that is kept; below, the allocator keeps it by itself."""

MOST = 1 << 30
"""How many bytes are kept at most for later copies."""

_ROUNDS = 2
"""For how many rounds memory is kept that none of them needed."""

_used: ContextVar[Staging | None] = ContextVar("staging", default=None)


def copied(array: NDArray[Any]) -> NDArray[Any]:
    """Return an independent copy in C order; its memory is reused where `Staging.in_use` says so."""
    staging = _used.get()
    return np.array(array, order="C", subok=False) if staging is None else staging.copy(array)


@final
@dataclass
class _Block:
    memory: mmap.mmap
    round: int


@final
class _Lease(np.ndarray[Any, Any]):
    """The owner of a copy's memory: every view of the copy keeps it alive, and no longer."""


@final
@dataclass
class Staging:
    """Memory for copies that are made again and again, and written behind training.

    A copy is an ordinary array. Once it and all views of it are gone, the next copy of its size takes its memory. What
    copies needed neither in this round nor in the one before is given back to the system, and so is what is more than
    `MOST`.
    """

    _free: dict[int, deque[_Block]] = field(default_factory=dict)
    _round: int = 0
    _open: bool = True

    @property
    def nbytes(self) -> int:
        """Return how many bytes are kept for later copies."""
        return sum(size * len(blocks) for size, blocks in list(self._free.items()))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the copies that are made meanwhile, by this thread, take their memory from here."""
        self._round, self._open = self._round + 1, True
        token = _used.set(self)
        try:
            yield
        finally:
            _used.reset(token)
            self._give_back()

    def copy(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an independent copy in C order."""
        if array.nbytes < _WORTH_KEEPING or array.dtype.hasobject:
            return np.array(array, order="C", subok=False)
        block = self._block(array.nbytes)
        lease = _Lease(array.shape, array.dtype, buffer=block.memory)
        weakref.finalize(lease, partial(self._take_back, block)).atexit = False
        copy = lease.view(np.ndarray)
        np.copyto(copy, array)
        return copy

    def close(self) -> None:
        """Give the memory back to the system: at once what no copy needs any more, the rest with the copies."""
        self._open = False
        self._free.clear()

    def _block(self, nbytes: int) -> _Block:
        with contextlib.suppress(KeyError, IndexError):
            block = self._free[nbytes].pop()
            block.round = self._round
            return block
        return _Block(_mapped(nbytes), self._round)

    def _take_back(self, block: _Block) -> None:
        """Keep what a copy needed; called wherever the last view of it is dropped, so it waits for nobody."""
        size = len(block.memory)
        if self._open and self.nbytes + size <= MOST:
            self._free.setdefault(size, deque()).append(block)

    def _give_back(self) -> None:
        for size, blocks in list(self._free.items()):
            for _ in range(len(blocks)):
                with contextlib.suppress(IndexError):
                    block = blocks.popleft()
                    if block.round > self._round - _ROUNDS:
                        blocks.append(block)
            if not blocks:
                self._free.pop(size, None)


def _mapped(nbytes: int) -> mmap.mmap:
    """Return memory that a forked child has its own of; in huge pages, which cost fewer faults, where it can be."""
    if sys.platform == "win32":
        return mmap.mmap(-1, nbytes)
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
