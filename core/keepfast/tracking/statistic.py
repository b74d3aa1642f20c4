"""Numbers added up, in the order they come."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import final

from keepfast.tracking.interval import Aggregate

_ASKED = re.compile(r"\(\s*(max|min)(?:imum)?\.?\s*\)\s*$", re.IGNORECASE)
"""How tags say which statistic is meant, however they write it."""


@functools.lru_cache(maxsize=1024)
def _asked(tag: str) -> str | None:
    found = _ASKED.search(tag)
    return None if found is None else found[1].lower()


SMALL = 2.0**-64
"""What numbers are multiplied by once their sum is too large; a sum of 2**64 of them is not too large any more."""


def mean(total: float, scale: float, count: int, minimum: float, maximum: float) -> float:
    """Return the mean of numbers from their sum, which was multiplied by `scale`; it lies among the numbers."""
    found = total / count / scale
    return found if scale == 1.0 else min(max(found, minimum), maximum)


@final
class Statistic:
    """Adds up numbers, in the order they come, so that a resumed run arrives at the very same bits.

    Where a sum is beyond the range of a float it is kept in another unit, so that the mean is none the less finite.
    """

    __slots__ = ("count", "maximum", "minimum", "nonfinite", "scale", "total")

    def __init__(
        self,
        count: int = 0,
        total: float = 0.0,
        maximum: float = -math.inf,
        minimum: float = math.inf,
        nonfinite: int = 0,
        scale: float = 1.0,
    ) -> None:
        self.count, self.total, self.maximum, self.minimum = count, total, maximum, minimum
        self.nonfinite, self.scale = nonfinite, scale

    @classmethod
    def of(cls, state: Sequence[float]) -> Statistic:
        """Return the statistic that `state` is of."""
        whole = [*state, *(0.0, 1.0)[len(state) - 4 :]]
        count, total, maximum, minimum, nonfinite, scale = map(float, whole)
        return cls(int(count), total, maximum, minimum, int(nonfinite), scale)

    def add(self, value: float) -> None:
        """Add one number; infinities and NaNs are counted but kept out."""
        total = self.total + value * self.scale
        if not math.isfinite(total):
            if not math.isfinite(value):
                self.nonfinite += 1
                return
            self.total, self.scale = self.total * SMALL, SMALL
            total = self.total + value * SMALL
        self.total = total
        self.count += 1
        if value > self.maximum:
            self.maximum = value
        if value < self.minimum:
            self.minimum = value

    def merge(self, numbers: Aggregate) -> None:
        """Add numbers that were added up elsewhere."""
        self.nonfinite += numbers.nonfinite
        if not numbers.count:
            return
        total = self.total + numbers.total * self.scale
        if not math.isfinite(total):
            self.total, self.scale = self.total * SMALL, SMALL
            total = self.total + numbers.total * SMALL
        self.total = total
        self.count += numbers.count
        self.maximum, self.minimum = max(self.maximum, numbers.maximum), min(self.minimum, numbers.minimum)

    def join(self, other: Statistic) -> None:
        """Add what another statistic added up, whatever unit each of them keeps its sum in."""
        self.nonfinite += other.nonfinite
        if not other.count:
            return
        scale = min(self.scale, other.scale)
        total = self.total * (scale / self.scale) + other.total * (scale / other.scale)
        if not math.isfinite(total):
            scale, total = SMALL, self.total * SMALL + other.total * SMALL
        self.total, self.scale = total, scale
        self.count += other.count
        self.maximum, self.minimum = max(self.maximum, other.maximum), min(self.minimum, other.minimum)

    def result(self, tag: str) -> float:
        """Return what the tag asks for at its end, in brackets: the maximum, the minimum, else the mean."""
        if (asked := _asked(tag)) is not None:
            return self.maximum if asked == "max" else self.minimum
        return mean(self.total, self.scale, self.count, self.minimum, self.maximum)

    def state(self) -> list[float]:
        """Return what `Statistic(*state)` makes the same statistic of."""
        return [self.count, self.total, self.maximum, self.minimum, self.nonfinite, self.scale]
