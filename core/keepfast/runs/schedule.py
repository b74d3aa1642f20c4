"""When something is due: every so many timesteps, never, or as often as suits the length of the training."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from keepfast.config import whole
from keepfast.errors import InvalidValue, as_given
from keepfast.runs.in_vain import WAVERING, warn_of_another_pass

_Interval = int | Literal["auto"]
"""An interval in timesteps; 0 or less disables; "auto" derives it from the length of the training."""


@final
@dataclass(frozen=True)
class Schedule:
    """Says at which timesteps something is due.

    Attributes:
        interval: in timesteps; 0 when disabled.
    """

    interval: int

    @classmethod
    def of(cls, value: _Interval, timesteps: int | None, samples: int, fallback: int) -> Schedule:
        """Return the schedule that a configured value means.

        Args:
            value: what the user configured.
            timesteps: the length of the training, or None where it is not known.
            samples: how often "auto" makes it due within that length.
            fallback: the interval of "auto" where the length is not known.
        """
        if value != "auto":
            return cls(max(value, 0))
        return cls(fallback if timesteps is None else max(timesteps // samples, 1))

    @property
    def enabled(self) -> bool:
        """Say whether it is ever due."""
        return self.interval > 0

    def due(self, completed: int) -> bool:
        """Say whether it is due once `completed` timesteps are done."""
        return self.interval > 0 and completed % self.interval == 0


@final
class Turns:
    """Says which of some schedules are due at each step of a loop that may count in strides.

    A schedule is due at the first step that reaches or passes a multiple of its interval. Where a loop's count goes
    back by more than an interval, it starts over and multiples are due again; by less it wavers, as that of several
    actors does, and what was due is not due again.

    Args:
        schedules: the schedules.
        completed: how many timesteps are complete already.

    Attributes:
        start: from this many completed timesteps on ...
        end: ... and below this many, none is due, and `take` need not be asked.
    """

    __slots__ = ("_intervals", "_next", "end", "start")

    def __init__(self, schedules: Sequence[Schedule], completed: int) -> None:
        self._intervals = [schedule.interval for schedule in schedules]
        self._next = [_next_multiple(interval, completed) for interval in self._intervals]
        self._narrow()

    def take(self, completed: int) -> list[bool]:
        """Say of each schedule whether it is due at this step, and wait for the next multiples of those that are."""
        due = []
        for position, interval in enumerate(self._intervals):
            over = completed < self._next[position] - 2 * interval
            due.append(interval > 0 and (completed % interval == 0 if over else completed >= self._next[position]))
            if due[-1] or over:
                self._next[position] = _next_multiple(interval, completed)
        self._narrow()
        return due

    def _narrow(self) -> None:
        self.end = min(self._next, default=sys.maxsize)
        pairs = zip(self._next, self._intervals, strict=True)
        self.start = max((following - 2 * interval for following, interval in pairs if interval), default=-sys.maxsize)


@final
class Passes:
    """Counts timesteps on where one experiment trains or evaluates again, each time from timestep 0.

    What a further pass stores then stands beside what the ones before it stored, and not in its place.

    Attributes:
        after: what is complete after timestep 0 of the present pass.
        end: what is complete at its end, or None where its length is not known.
    """

    __slots__ = ("_first", "_is_told", "_length", "after", "end")

    def __init__(self) -> None:
        self.after = 1
        self.end: int | None = None
        self._length: int | None = None
        self._first: int | None = None
        self._is_told = False

    def set_length(self, timesteps: int | None) -> None:
        """Set the length of a pass, or None where it is not known."""
        self._length = timesteps
        self.end = None if timesteps is None else self.after - 1 + timesteps

    def start(self, completed: int) -> None:
        """Be told what the first step completes, from which a further pass is known."""
        self._is_told = False
        self._first = completed

    def resume(self, completed: int) -> None:
        """Be told that the run goes on from a checkpoint, whose timestep counts every pass."""
        self.after, self._first, self._is_told = 1, completed + 1, False
        self.set_length(self._length)

    def tell(self) -> None:
        """Be told that another training or evaluation begins."""
        self._is_told = True

    def begin(self, completed: int, reached: int) -> int:
        """Begin another pass with a step that goes back, if it does, and return how far its count is on.

        Without a length no pass is ever over, so that none begins which nobody told of.

        Args:
            completed: what is complete with the step, by the count of the present pass.
            reached: what was complete before it.

        Returns:
            What is to be added to `completed`; 0 where no pass begins.
        """
        before = self.after - 1
        if self._first is None or completed > self._first or reached <= before:
            return 0
        if not self._is_told:
            if self.end is None or reached < min(self.end, before + WAVERING + 1):
                return 0
            if reached < self.end:
                warn_of_another_pass(reached)
        self._first += reached - before
        self.after, self._is_told = reached + 1, False
        self.set_length(self._length)
        return reached - before


def _next_multiple(interval: int, completed: int) -> int:
    return (completed // interval + 1) * interval if interval else sys.maxsize


def whole_timestep(number: Any) -> int:
    """Return a count of timesteps, which may come as an integer of NumPy, PyTorch or JAX.

    Raises:
        InvalidValue: if it is no whole number.
    """
    try:
        return operator.index(number)
    except Exception:  # noqa: BLE001  (whatever it says of that, it is no number)
        raise InvalidValue(
            f"a timestep is {as_given(number)} ({type(number).__name__}); allowed: a whole number"
        ) from None


def length_of(timesteps: Any) -> int | None:
    """Return the length of a training, which may come as a number of NumPy, or as a float such as 1e6.

    Raises:
        InvalidValue: if it is no whole number of at least 1, nor None.
    """
    number = whole(timesteps.item() if isinstance(timesteps, np.generic) else timesteps)
    if number is not None and (not isinstance(number, int) or number < 1):
        hint = "; YAML 1.1 reads 1e6 as text, and 1.0e+6 as a number" if isinstance(timesteps, str) else ""
        raise InvalidValue(
            f"`timesteps` is {as_given(timesteps)}; allowed: a whole number of at least 1, or None{hint}"
        )
    return None if number is None else int(number)
