"""Ring: where a circular buffer is, and which of its samples follow one another in time; Cursor: what moves it on."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, as_given

EPISODE_ENDS = frozenset({"terminated", "truncated", "dones"})
"""The tensors whose true values end an episode."""

VALID = "valid"
"""The tensor that tells which samples are transitions; there once one was none."""


def reset_rows(ends: NDArray[np.bool], ended: NDArray[np.bool]) -> NDArray[np.bool]:
    """Return which rows are resets, where an environment resets in the step after an episode's end.

    Args:
        ends: whether a row ends an episode, of shape (rows, num_envs).
        ended: whether the row before the first one did, of shape (num_envs,).
    """
    resets = np.empty_like(ends)
    resets[0], resets[1:] = ended, ends[:-1]
    if (resets & ends).any():  # a reset ends nothing, so that the row behind it is a transition
        for row in range(1, len(ends)):
            resets[row] = ends[row - 1] & ~resets[row - 1]
    return resets


@final
@dataclass(frozen=True)
class Ring:
    """Where the samples of a memory lie in its rows, which are written round and round.

    A row holds one sample of each environment, and is written environment by environment. The place of a sample is
    row * num_envs + environment.

    Attributes:
        memory_size: the number of rows.
        num_envs: the number of environments.
        memory_index: the row that the next sample goes to.
        env_index: the environment that the next sample goes to.
        filled: whether every row has been written, so that those from `memory_index` on are the oldest.
    """

    memory_size: int
    num_envs: int
    memory_index: int = 0
    env_index: int = 0
    filled: bool = False

    def __len__(self) -> int:
        """Return the number of samples, counted over all environments."""
        return self.capacity if self.filled else self.memory_index * self.num_envs + self.env_index

    @property
    def capacity(self) -> int:
        """Return the number of places."""
        return self.memory_size * self.num_envs

    @property
    def position(self) -> tuple[int, int, bool]:
        """Return where the next sample goes: `memory_index`, `env_index` and `filled`."""
        return self.memory_index, self.env_index, self.filled

    def moved(self, memory_index: int | None = None, env_index: int | None = None, filled: bool | None = None) -> Ring:
        """Return a ring of the same sizes that is elsewhere; what is None stays.

        Raises:
            InvalidValue: if there is no such row or environment, or `filled` is neither true nor false.
        """
        if not (filled is None or isinstance(filled, bool | np.bool)):
            raise InvalidValue(f"`filled` is {as_given(filled)}; allowed: True or False")
        return replace(
            self,
            memory_index=self.memory_index
            if memory_index is None
            else _one_of("memory_index", memory_index, self.memory_size),
            env_index=self.env_index if env_index is None else _one_of("env_index", env_index, self.num_envs),
            filled=self.filled if filled is None else bool(filled),
        )

    @property
    def complete_rows(self) -> int:
        """Return the number of rows that every environment has written."""
        return self.memory_size if self.filled else self.memory_index

    def count(self, environment: int) -> int:
        """Return the number of samples of an environment."""
        return self.memory_size if self.filled else self.memory_index + (environment < self.env_index)

    def rows(self, environment: int, start: int, stop: int) -> tuple[slice, ...]:
        """Return the rows of an environment's samples, counted from its oldest; a second range where they wrap."""
        oldest = self.memory_index + (environment < self.env_index) if self.filled else 0
        first, last = oldest + start, oldest + stop
        ranges = (first, min(last, self.memory_size)), (max(first - self.memory_size, 0), last - self.memory_size)
        return tuple(slice(*ends) for ends in ranges if ends[0] < ends[1])

    def newest(self, environment: int) -> int | None:
        """Return the place of an environment's newest sample, or None where it has none."""
        if not self.count(environment):
            return None
        row = self.memory_index - (environment >= self.env_index)
        return row % self.memory_size * self.num_envs + environment

    def order(self, part: slice = slice(None)) -> NDArray[np.intp]:
        """Return, for each environment, its rows from the oldest on; those that were never written come last.

        In a filled memory, environments before `env_index` have written one row more than the others.

        Args:
            part: which of the rows of the result are wanted.

        Returns:
            Rows, of shape (memory_size, num_envs) where no part is asked for.
        """
        newer = np.arange(self.num_envs) < self.env_index
        oldest = self.memory_index + newer if self.filled else np.zeros(self.num_envs, np.intp)
        rows: NDArray[np.intp] = np.arange(self.memory_size)[part, None] + oldest
        rows %= self.memory_size
        return rows

    def histories(self) -> list[NDArray[np.intp]]:
        """Return, for each environment, the places of its samples, oldest first."""
        rows = self.order()
        rows *= self.num_envs
        rows += np.arange(self.num_envs)
        return [rows[: self.count(each), each] for each in range(self.num_envs)]

    def sequence_starts(self, ends: NDArray[Any], length: int) -> NDArray[np.intp]:
        """Return the places where a sequence can start.

        Args:
            ends: whether a sample is the last of its episode, of shape (memory_size, num_envs).
            length: how many samples a sequence has, at least 2.

        Returns:
            Places from which `length` samples are written, follow one another, and do not go beyond the end of an
            episode.
        """
        last = self.memory_size - length + 1
        if last <= 0:
            return np.empty(0, np.intp)
        rows, written = self.order(), np.array([self.count(each) for each in range(self.num_envs)])
        ended = np.zeros((self.memory_size + 1, self.num_envs), np.intp)
        np.cumsum(np.take_along_axis(ends, rows, axis=0), axis=0, out=ended[1:])
        unbroken = ended[length - 1 : length - 1 + last] == ended[:last]  # none of the samples but the last ends it
        inside = np.arange(last)[:, None] + length <= written
        start, environment = np.nonzero(unbroken & inside)
        places: NDArray[np.intp] = rows[start, environment] * self.num_envs + environment
        return places


def _one_of(name: str, given: Any, count: int) -> int:
    try:
        place = operator.index(given)
    except Exception:  # noqa: BLE001  (whatever it is, it is no number)
        place = -1
    if not 0 <= place < count:
        raise InvalidValue(f"`{name}` is {as_given(given)}; allowed: a whole number from 0 to {count - 1}")
    return place


@final
class Cursor:
    """Goes round a ring as samples are added, and remembers which of them do not follow one another.

    Args:
        memory_size: the number of rows.
        num_envs: the number of environments.

    Attributes:
        capacity: the number of places.
        place: the place that the next sample goes to.
        filled: whether every row has been written.
        cycles: how many times the last row was completed.
        moves: how many times it was moved elsewhere than samples move it on.
        invalid: the places, ascending, of samples that are known to be no transitions.
    """

    def __init__(self, memory_size: int, num_envs: int) -> None:
        self.memory_size, self.num_envs = memory_size, num_envs
        self.capacity = memory_size * num_envs
        self.place, self.filled, self.cycles, self.moves = 0, False, 0, 0
        self.invalid = np.empty(0, np.intp)
        self.seams = set()

    def __len__(self) -> int:
        """Return the number of samples, counted over all environments."""
        return self.capacity if self.filled else self.place

    @property
    def seams(self) -> set[int]:
        """The places of samples that the next one of their environment does not follow in time."""
        return self._seams

    @seams.setter
    def seams(self, seams: Iterable[int]) -> None:
        self._seams = set(seams)
        self._next_seam = 0  # none comes before it, from the cursor on; a lower bound

    @property
    def ring(self) -> Ring:
        """Return where the cursor is now."""
        return Ring(self.memory_size, self.num_envs, *divmod(self.place, self.num_envs), self.filled)

    def advance(self, count: int) -> bool:
        """Go on by a number of samples, to the end of the last row at most; return whether that is completed."""
        start = self.place
        self.place = start + count
        if self._seams and self._next_seam < self.place:
            self._seams.difference_update(range(start, self.place))
            self._next_seam = min((seam for seam in self._seams if seam >= start), default=self.capacity)
        if self.place < self.capacity:
            return False
        self.place, self.filled = 0, True
        self._next_seam = 0
        self.cycles += 1
        return True

    def move(self, ring: Ring, seams: Iterable[int] = (), invalid: NDArray[np.intp] | None = None) -> None:
        """Go to where another ring of the same sizes is."""
        self.place, self.filled = ring.memory_index * self.num_envs + ring.env_index, ring.filled
        self.moves += 1
        self.seams = seams
        self.invalid = np.empty(0, np.intp) if invalid is None else invalid

    def mark(self, start: int, valid: NDArray[np.bool]) -> None:
        """Take note of which samples, from a place on, are transitions."""
        first, last = np.searchsorted(self.invalid, (start, start + len(valid)))
        if first < last or not valid.all():
            parts = self.invalid[:first], start + np.flatnonzero(~valid), self.invalid[last:]
            self.invalid = np.concatenate(parts)

    def part(self, environments: Iterable[int]) -> None:
        """Take note that what comes next of some environments does not follow their newest samples."""
        ring = self.ring
        newest = (ring.newest(environment) for environment in environments)
        self.seams = self._seams | {place for place in newest if place is not None}
