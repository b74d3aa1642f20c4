"""SampledBuffer: a memory that gives its samples back, at random or all of them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import UsageError
from holdfast.memory_buffer import MemoryBuffer
from holdfast.memory_sequences import EPISODE_ENDS, environment_order, sequence_indexes, sequence_starts


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
        self._starts: dict[int, NDArray[np.intp]] = {}  # of sequences, by their length, until the samples change

    @abc.abstractmethod
    def _draw(self, size: int, count: int) -> Any:
        """Return `count` random numbers below `size`, as an array of the framework."""

    @abc.abstractmethod
    def _indexes(self, indexes: Any) -> Any:
        """Return places, given as any array, as an array that `_take` takes."""

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
                has these tensors) nor the place that is overwritten next.

        Returns:
            For each mini-batch, the samples of each name, in the order of `names`, of shape
            (batch_size / mini_batches * sequence_length, *size); the samples of a sequence follow one another.

        Raises:
            UnknownTensor: if there is no tensor of a name.
            UsageError: if there is nothing to sample from.
        """
        if sequence_length > 1:
            starts = self._sequence_starts(sequence_length)
            drawn = np.asarray(self._draw(len(starts), batch_size))
            parts = [
                sequence_indexes(part, self.num_envs, self.memory_size, sequence_length)
                for part in np.array_split(starts[drawn], mini_batches)
            ]
            self._sampling_indexes = np.concatenate(parts)
            return [self._take_checked(names, self._indexes(part)) for part in parts]
        if not len(self):
            raise UsageError("the memory is empty, so there is nothing to sample; call `add_samples` first")
        self._sampling_indexes = self._draw(len(self), batch_size)
        return self.sample_by_index(names, self._sampling_indexes, mini_batches)

    def _sequence_starts(self, length: int) -> NDArray[np.intp]:
        if length not in self._starts:
            shape = (self.memory_size, self.num_envs)
            ends = np.zeros(shape, bool)
            for name in EPISODE_ENDS & self._specs.keys():
                ends |= self._host(name).reshape(*shape, -1).any(axis=-1)
            self._starts[length] = sequence_starts(ends, self.memory_index, self.env_index, self.filled, length)
        if not len(self._starts[length]):
            raise UsageError(f"the memory holds no sequence of {length} samples within one episode")
        return self._starts[length]

    def sample_by_index(self, names: Sequence[str], indexes: Any, mini_batches: int = 1) -> list[list[Any]]:
        """Return samples by their place, row * num_envs + environment, split into mini-batches."""
        if mini_batches == 1:
            return [self._take_checked(names, self._indexes(indexes))]
        parts = np.array_split(np.asarray(indexes), mini_batches)
        return [self._take_checked(names, self._indexes(part)) for part in parts]

    def sample_all(self, names: Sequence[str], mini_batches: int = 1, sequence_length: int = 1) -> list[list[Any]]:
        """Return every sample, in the order of their rows, split into mini-batches.

        Args:
            names: the tensors to return.
            mini_batches: into how many parts to split them, as equal as possible.
            sequence_length: where greater than 1, the samples of one environment follow one another.

        Returns:
            For each mini-batch, the samples of each name, of shape (len(memory) / mini_batches, *size).

        Raises:
            UnknownTensor: if there is no tensor of a name.
        """
        if sequence_length > 1:
            order = environment_order(len(self), self.num_envs)
            return self.sample_by_index(names, order, mini_batches)
        bounds = [len(self) * part // mini_batches for part in range(mini_batches + 1)]
        known = [self._spec(name).name for name in names]
        return [[self._slice(name, start, stop) for name in known] for start, stop in pairwise(bounds)]

    def get_sampling_indexes(self) -> Any:
        """Return the places of what `sample` returned last."""
        return self._sampling_indexes

    def _take_checked(self, names: Sequence[str], indexes: Any) -> list[Any]:
        return self._take([self._spec(name).name for name in names], indexes)
