"""Sampler: the samples of a buffer, at random or all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.checks import listed
from keepfast.errors import UsageError
from keepfast.interfaces.ring import EPISODE_ENDS
from keepfast.memories.buffer import SampleBuffer
from keepfast.memories.tensors.composites import Composites
from keepfast.memories.tensors.specs import positive


@final
class Sampler:
    """Draws samples by their place in the flat buffers: row * num_envs + environment.

    Its calls are those of `Memory`, which has their documentation, for one thread at a time.

    Args:
        buffer: what to sample from.
        replacement: whether `sample` may return one sample several times.
        last: the places of what another sampler returned last, which this one takes over from.

    Attributes:
        replacement: whether `sample` may return one sample several times.
        last: the places of what `sample` returned last.
    """

    def __init__(self, buffer: SampleBuffer, replacement: bool = True, last: Any = None) -> None:
        self._buffer = buffer
        self.replacement, self.last = replacement, last
        # Until the samples change: sequences by their length, and the ranks of places that are left out.
        self._found: dict[int, tuple[Any, Any]] = {}
        self._ranks: Any = None
        self._found_at = -1

    def sample(
        self, names: Sequence[str], batch_size: int, mini_batches: int = 1, sequence_length: int = 1
    ) -> list[list[Any]]:
        """Return random samples, or sequences, in mini-batches."""
        positive("batch_size", batch_size)
        names, known = self._check(names, mini_batches, sequence_length)
        with self._buffer.storage.plainly():
            self.last = places = self._places(batch_size, sequence_length)
            return _spread(names, known, self._split(known, places, mini_batches, sequence_length))

    def _places(self, batch_size: int, sequence_length: int) -> Any:
        """Return random places, of samples or of sequences."""
        if sequence_length == 1:
            return self._draw_places(batch_size)
        starts, steps = self._sequences(sequence_length)
        drawn = starts[self._draw(len(starts), batch_size)]
        return ((drawn[:, None] + steps) % self._buffer.cursor.capacity).reshape(-1)

    def _draw_places(self, count: int) -> Any:
        invalid = self._buffer.invalid
        if not (size := len(self._buffer) - len(invalid)):
            if len(invalid):
                raise UsageError("no sample of the memory is a transition, so there is nothing to sample")
            raise UsageError("the memory is empty, so there is nothing to sample; call `add_samples` first")
        drawn = self._draw(size, count)
        return self._buffer.storage.skip(drawn, self._skipped(invalid)) if len(invalid) else drawn

    def _skipped(self, invalid: NDArray[np.intp]) -> Any:
        """Return for each place that is left out the rank that the next one that is not has."""
        self._forget_old()
        if self._ranks is None:
            self._ranks = self._buffer.storage.places(invalid - np.arange(len(invalid)))
        return self._ranks

    def _forget_old(self) -> None:
        if self._found_at != self._buffer.changes:
            self._found.clear()
            self._ranks = None
            self._found_at = self._buffer.changes

    def _draw(self, size: int, count: int) -> Any:
        return self._buffer.storage.draw(size, count, replacement=self.replacement)

    def _sequences(self, length: int) -> tuple[Any, Any]:
        """Return the places where sequences start, and how far from there their samples are."""
        self._forget_old()
        if length not in self._found:
            cursor, storage = self._buffer.cursor, self._buffer.storage
            starts = cursor.ring.sequence_starts(self._ends(), length)
            if not len(starts):
                raise UsageError(f"the memory holds no sequence of {length} samples within one episode")
            steps = np.arange(length) * cursor.num_envs % cursor.capacity
            self._found[length] = storage.places(starts), storage.places(steps)
        return self._found[length]

    def _ends(self) -> Any:
        """Return, of shape (memory_size, num_envs), whether what comes next is of something else."""
        storage, specs = self._buffer.storage, self._buffer.specs
        ends = np.zeros((storage.memory_size, storage.num_envs), bool)
        flat = ends.reshape(-1)
        flat[list(self._buffer.cursor.seams)] = True
        invalid = self._buffer.invalid
        flat[invalid] = flat[(invalid - storage.num_envs) % flat.size] = True  # and the sample before each
        for name in EPISODE_ENDS & specs.keys():
            size = specs[name].size
            flags = storage.host(name).reshape(*ends.shape, *size).astype(bool)
            ends |= flags.any(axis=tuple(range(2, 2 + len(size))))
        return ends

    def by_index(self, names: Sequence[str], indexes: Any, mini_batches: int = 1) -> list[list[Any]]:
        """Return samples by their place, split into mini-batches."""
        names, known = self._check(names, mini_batches)
        with self._buffer.storage.plainly():
            return _spread(names, known, self._split(known, self._buffer.storage.places(indexes), mini_batches))

    def everything(self, names: Sequence[str], mini_batches: int = 1, sequence_length: int = 1) -> list[list[Any]]:
        """Return every sample, split into mini-batches."""
        names, known = self._check(names, mini_batches, sequence_length)
        return _spread(names, known, self._everything(known, mini_batches, sequence_length))

    def _everything(self, names: Sequence[str], mini_batches: int, sequence_length: int) -> list[list[Any]]:
        storage, cursor, invalid = self._buffer.storage, self._buffer.cursor, self._buffer.invalid
        with storage.plainly():
            if sequence_length > 1 or len(invalid):
                order = np.concatenate(cursor.ring.histories()) if sequence_length > 1 else np.arange(len(cursor))
                places = storage.places(order[~np.isin(order, invalid)])
                return self._split(names, places, mini_batches, sequence_length)
            bounds = _bounds(len(cursor), mini_batches)
            tensors, together = self._composites.tensors_of(names), self._composites.together
            self._buffer.expose(tensors)
            parts = [[storage.slice(name, start, stop) for name in tensors] for start, stop in pairwise(bounds)]
            return [together(names, part) for part in parts]

    @property
    def _composites(self) -> Composites:
        return self._buffer.tensors.composites

    def _check(
        self, names: Sequence[str], mini_batches: int, sequence_length: int = 1
    ) -> tuple[Sequence[str], Sequence[str]]:
        """Return the names, and those of them that are of tensors."""
        positive("mini_batches", mini_batches)
        positive("sequence_length", sequence_length)
        several = isinstance(names, Iterable) and not isinstance(names, list | tuple | str | bytes)
        asked = listed("names", names, "the names of tensors") if several else names
        return asked, self._buffer.tensors.known(asked)

    def _split(self, names: Sequence[str], places: Any, mini_batches: int, length: int = 1) -> list[list[Any]]:
        """Return the samples at some places in mini-batches, which divide no sequence of a length."""
        take, together = self._buffer.storage.take, self._composites.together
        tensors = self._composites.tensors_of(names)
        if mini_batches == 1:
            return [together(names, take(tensors, places))]
        bounds = [length * bound for bound in _bounds(-(-len(places) // length), mini_batches)]
        return [together(names, take(tensors, places[start:stop])) for start, stop in pairwise(bounds)]


def _spread(names: Sequence[str], known: Sequence[str], batches: list[list[Any]]) -> list[list[Any]]:
    """Return what was sampled in the order of all names, None for those that are of no tensor."""
    if len(names) == len(known):
        return batches
    there = [name in known for name in names]
    return [[next(part) if is_there else None for is_there in there] for part in map(iter, batches)]


def _bounds(count: int, parts: int) -> list[int]:
    """Return where parts of a number of samples begin and end; the first ones have one more where that is needed."""
    each, more = divmod(count, parts)
    return [part * each + min(part, more) for part in range(parts + 1)]
