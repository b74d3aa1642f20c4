"""SampledBuffer: a memory that gives its samples back, at random or all of them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, UsageError
from keepfast.interfaces.ring import EPISODE_ENDS
from keepfast.memories.buffer import MemoryBuffer
from keepfast.memories.specs import positive


class SampledBuffer(MemoryBuffer):
    """Returns samples by their place in the flat buffers: row * num_envs + environment.

    Args:
        memory_size: how many rows; each holds one sample of every environment.
        num_envs: how many environments.
        device: where the tensors live; None is the framework's default.
        replacement: whether `sample` may return one sample several times. Without, a batch larger than what the
            memory holds is cut to that.
    """

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None, replacement: bool = True) -> None:
        super().__init__(memory_size, num_envs, device)
        self.replacement = replacement
        self._sampling_indexes: Any = None
        self._starts: dict[int, Any] = {}  # of sequences, by their length, until the samples change

    @abc.abstractmethod
    def _draw(self, size: int, count: int) -> Any:
        """Return `count` random numbers below `size`, as an array that `_take` takes."""

    @abc.abstractmethod
    def _indexes(self, indexes: Any) -> Any:
        """Return places, given in any form, as an array that `_take` takes and that adds and slices as NumPy's do.

        Raises:
            InvalidValue: if they are no places of the memory. Places that are on another device are not checked.
        """

    @abc.abstractmethod
    def _take(self, names: Sequence[str], indexes: Any) -> list[Any]:
        """Return the samples at some places, for each name."""

    @abc.abstractmethod
    def _slice(self, name: str, start: int, stop: int) -> Any:
        """Return the samples from one place to another."""

    def _changed(self) -> None:
        self._starts.clear()

    def sample(
        self, names: Sequence[str], batch_size: int, mini_batches: int = 1, sequence_length: int = 1
    ) -> list[list[Any]]:
        """Return random samples, in mini-batches.

        Args:
            names: the tensors to sample from.
            batch_size: how many samples, or sequences.
            mini_batches: into how many parts to split them.
            sequence_length: how many consecutive samples of one environment to return for each one drawn. Sequences
                do not cross the end of an episode (a true value in ``terminated`` or ``truncated``, where the memory
                has these tensors), the place that is overwritten next, nor a place where `load` put together what
                did not belong together.

        Returns:
            For each mini-batch, the samples of each name, in the order of `names`, of shape
            (batch_size / mini_batches * sequence_length, *size); the samples of a sequence follow one another.

        Raises:
            UnknownTensor: if there is no tensor of a name.
            UsageError: if there is nothing to sample from.
            InvalidValue: if a number is no positive whole number.
        """
        positive("batch_size", batch_size)
        with self._lock:
            self._check(names, mini_batches, sequence_length)
            if sequence_length == 1:
                if not len(self):
                    raise UsageError("the memory is empty, so there is nothing to sample; call `add_samples` first")
                places = self._draw(len(self), batch_size)
            else:
                starts = self._sequence_starts(sequence_length)
                drawn = starts[self._draw(len(starts), batch_size)]
                steps = self._indexes(np.arange(sequence_length) * self.num_envs % self._capacity)
                places = ((drawn[:, None] + steps) % self._capacity).reshape(-1)
            self._sampling_indexes = places
            return self._split(names, places, mini_batches, sequence_length)

    def _sequence_starts(self, length: int) -> Any:
        if length not in self._starts:
            ends = np.zeros((self.memory_size, self.num_envs), bool)
            ends.reshape(-1)[list(self._seams)] = True
            for name in EPISODE_ENDS & self._specs.keys():
                size = self._specs[name].size
                flags = self._host(name).reshape(*ends.shape, *size).astype(bool)
                ends |= flags.any(axis=tuple(range(2, 2 + len(size))))
            starts = self.ring.sequence_starts(ends, length)
            if not len(starts):
                raise UsageError(f"the memory holds no sequence of {length} samples within one episode")
            self._starts[length] = self._indexes(starts)
        return self._starts[length]

    def sample_by_index(self, names: Sequence[str], indexes: Any, mini_batches: int = 1) -> list[list[Any]]:
        """Return samples by their place, row * num_envs + environment, split into mini-batches.

        Raises:
            UnknownTensor: if there is no tensor of a name.
            InvalidValue: if an index is not that of a place. An accelerator's own tensors are not checked, for that
                would mean to wait for it.
        """
        with self._lock:
            self._check(names, mini_batches)
            return self._split(names, self._indexes(indexes), mini_batches)

    def sample_all(self, names: Sequence[str], mini_batches: int = 1, sequence_length: int = 1) -> list[list[Any]]:
        """Return every sample, in the order of their rows, split into mini-batches.

        Args:
            names: the tensors to return.
            mini_batches: into how many parts to split them, as equal as possible.
            sequence_length: where greater than 1, the samples of one environment follow one another, oldest first, and
                mini-batches begin at multiples of it. An environment whose number of samples is no multiple shares a
                sequence with the next.

        Returns:
            For each mini-batch, the samples of each name, of shape (len(memory) / mini_batches, *size).

        Raises:
            UnknownTensor: if there is no tensor of a name.
            InvalidValue: if a number is no positive whole number.
        """
        with self._lock:
            self._check(names, mini_batches, sequence_length)
            if sequence_length > 1:
                places = self._indexes(np.concatenate(self.ring.histories()))
                return self._split(names, places, mini_batches, sequence_length)
            bounds = _bounds(len(self), mini_batches)
            return [[self._slice(name, start, stop) for name in names] for start, stop in pairwise(bounds)]

    def get_sampling_indexes(self) -> Any:
        """Return the places of what `sample` returned last."""
        return self._sampling_indexes

    def _check(self, names: Sequence[str], mini_batches: int, sequence_length: int = 1) -> None:
        positive("mini_batches", mini_batches)
        positive("sequence_length", sequence_length)
        for name in names:
            self._spec(name)

    def _split(self, names: Sequence[str], places: Any, mini_batches: int, length: int = 1) -> list[list[Any]]:
        """Return the samples at some places in mini-batches, which divide no sequence of a length."""
        if mini_batches == 1:
            return [self._take(names, places)]
        bounds = [length * bound for bound in _bounds(-(-len(places) // length), mini_batches)]
        return [self._take(names, places[start:stop]) for start, stop in pairwise(bounds)]


def _bounds(count: int, parts: int) -> list[int]:
    """Return where parts of a number of samples begin and end; the first ones have one more where that is needed."""
    each, more = divmod(count, parts)
    return [part * each + min(part, more) for part in range(parts + 1)]


def checked_places(indexes: Any, capacity: int) -> NDArray[np.intp]:
    """Return places that users give as an array of NumPy.

    Raises:
        InvalidValue: if they are no whole numbers, or not below the number of places.
    """
    places = np.asarray(indexes)
    if places.size == 0:
        places = places.astype(np.intp)  # an empty list makes an array of floats
    if places.dtype.kind not in "iu" or places.ndim != 1:
        raise InvalidValue(
            f"indexes of {places.dtype} and shape {places.shape} were given; allowed: whole numbers in one dimension"
        )
    if places.size and not 0 <= (low := int(places.min())) <= (high := int(places.max())) < capacity:
        wrong = low if low < 0 else high
        raise InvalidValue(f"the index {wrong} is none of the memory; allowed: 0 to {capacity - 1}")
    return places.astype(np.intp, copy=False)
