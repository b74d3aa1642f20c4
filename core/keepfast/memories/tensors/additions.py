"""RowLog: knows which rows of a memory its checkpoints have, and returns those that they lack."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.disk.checksum import crc32
from keepfast.codec import array_bytes
from keepfast.interfaces.loading.memory_log import MOST_SEGMENTS, MemoryLog, NewRows, Part, stretches
from keepfast.memories.tensors.specs import TensorSpec

if TYPE_CHECKING:
    from keepfast.memories.buffer import SampleBuffer
    from keepfast.memories.memory import Memory

_BLOCKS = 1024
"""In how many parts a tensor is looked at that somebody else may have changed."""

_AT_ONCE = 1 << 20
"""How many bytes of a tensor are looked at at once."""


@final
@dataclass(frozen=True)
class _Tensor:
    """A tensor at one moment: what it is, how often all of it was set, and the digests of its blocks, where needed."""

    dtype: str
    size: tuple[int, ...]
    settings: int
    digests: tuple[int, ...] | None

    def is_as(self, other: _Tensor | None) -> bool:
        """Say whether it is the same tensor as at another moment, with nothing set but samples."""
        return other is not None and replace(self, digests=None) == replace(other, digests=None)


@final
@dataclass(frozen=True)
class _Moment:
    """A memory at the moment of a checkpoint: where its cursor was, what its tensors were, and what was logged."""

    memory: weakref.ref[SampleBuffer]
    moves: int
    place: int
    position: int
    tensors: Mapping[str, _Tensor]
    log: MemoryLog


@final
class RowLog:
    """Knows which rows of a memory lie in segments already.

    Samples that are added are known by the cursor. What else changes a tensor is noticed: one that was set as a whole,
    by the count of that; one whose memory somebody was given, by the digests of its parts. It is written whole then.
    """

    def __init__(self) -> None:
        self._stored: _Moment | None = None

    def take(self, memory: Memory, segments: Container[str]) -> tuple[dict[str, Any], NewRows]:
        """Return the state of a memory without its tensors, and of these a copy of what no segment has.

        That counts as stored once it is told to be durable.

        Args:
            memory: the memory.
            segments: the files of those segments that are there.
        """
        with memory._lock:  # noqa: SLF001  (of this room)
            buffer = memory._buffer  # noqa: SLF001
            return buffer.position(), self._take(buffer, segments)

    def _take(self, buffer: SampleBuffer, segments: Container[str]) -> NewRows:
        before = self._usable(buffer, segments)
        place = buffer.cursor.cycles * buffer.cursor.capacity + buffer.cursor.place
        position = len(buffer) if before is None else before.position + place - before.place
        parts, tensors = dict[str, Part](), dict[str, _Tensor]()
        with buffer.storage.plainly():
            for name, spec in buffer.specs.items():
                known = before.tensors.get(name) if before is not None else None
                tensors[name] = _Tensor(spec.dtype, spec.size, buffer.settings[name], _digests(buffer, spec))
                news = None
                if before is not None and known is not None and tensors[name].is_as(known):
                    added = before.place % buffer.cursor.capacity, place - before.place
                    news = _unseen(buffer, added, known.digests, tensors[name].digests)
                parts[name] = (0, len(buffer)) if news is None else news
            parts = {name: part for name, part in parts.items() if part[1]}
            rows = {name: _rows(buffer, name, part) for name, part in parts.items()}
        made = _log_of(buffer)
        log = made if before is None else replace(made, segments=before.log.segments)
        moment = _Moment(weakref.ref(buffer), buffer.cursor.moves, place, position, tensors, log)

        def durable(log: MemoryLog) -> None:
            self._stored = replace(moment, log=log)

        return NewRows(log, position, parts, rows, durable)

    def _usable(self, buffer: SampleBuffer, segments: Container[str]) -> _Moment | None:
        """Return the moment that was stored last, unless it is of another memory or less than its rows are there."""
        stored = self._stored
        if stored is None or stored.memory() is not buffer or stored.moves != buffer.cursor.moves:
            return None
        files = [segment.file for segment in stored.log.segments]
        return stored if len(files) < MOST_SEGMENTS and all(file in segments for file in files) else None


@contextlib.contextmanager
def only_read(memory: Memory) -> Iterator[None]:
    """Have what is given out of a memory in the block not count as such: whoever gets it changes nothing."""
    buffer = memory._buffer  # noqa: SLF001  (of this room)
    exposed = set(buffer.exposed)
    yield
    buffer.exposed &= exposed


def _log_of(buffer: SampleBuffer) -> MemoryLog:
    tensors = {name: (spec.dtype, spec.size) for name, spec in buffer.specs.items()}
    return MemoryLog(buffer.storage.memory_size, buffer.storage.num_envs, tensors)


def _unseen(
    buffer: SampleBuffer, added: Part, before: tuple[int, ...] | None, now: tuple[int, ...] | None
) -> Part | None:
    """Return the places that no segment has, given those that were added; None where all are to be written.

    Where the digests of a tensor's blocks are needed, the part is of whole blocks: of a block that was written to, no
    digest tells whether the rest of it is what it was.
    """
    if added[1] >= len(buffer):
        return None
    if now is None:
        return added
    if before is None:
        return None
    size, capacity = _block(buffer), buffer.cursor.capacity
    written = [(start // size, -(-stop // size)) for start, stop in stretches(added, capacity)]
    touched = {block for first, last in written for block in range(first, last)}
    if any(now[block] != before[block] for block in range(len(now)) if block not in touched):
        return None
    if not written:
        return added
    first, last = written[0][0] * size, min(written[-1][1] * size, len(buffer))
    count = (last - first) if len(written) == 1 else capacity - first + last
    return None if count >= len(buffer) else (first, count)


def _block(buffer: SampleBuffer) -> int:
    return -(-buffer.cursor.capacity // _BLOCKS)


def _digests(buffer: SampleBuffer, spec: TensorSpec) -> tuple[int, ...] | None:
    """Return the digests of a tensor's blocks; None where nobody but the memory itself can change it."""
    if not (buffer.is_lent or spec.name in buffer.exposed):
        return None
    return tuple(_block_digests(buffer, spec.name))


def _block_digests(buffer: SampleBuffer, name: str) -> Iterator[int]:
    size, capacity = _block(buffer), buffer.cursor.capacity
    row = buffer.storage.host_part(name, 0, 1).nbytes
    at_once = max(size, _AT_ONCE // max(row, 1) // size * size)
    for start in range(0, capacity, at_once):
        values = buffer.storage.host_part(name, start, min(start + at_once, capacity))
        for first in range(0, len(values), size):
            yield crc32(array_bytes(values[first : first + size]))


def _rows(buffer: SampleBuffer, name: str, part: Part) -> NDArray[Any]:
    pieces = [buffer.storage.host_rows(name, *stretch) for stretch in stretches(part, buffer.cursor.capacity)]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
