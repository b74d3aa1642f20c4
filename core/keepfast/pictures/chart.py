"""A chart of one tag: thin lines of what was measured, thick ones of it smoothed, and bands over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
from numpy.typing import NDArray

from keepfast.metrics.spread import Curve, Spread

COLORS = 8
"""How many colours lines have, before the first one comes again."""


@final
@dataclass(frozen=True)
class Line:
    """What is drawn in one colour.

    Attributes:
        label: whose it is.
        color: the number of its colour.
        measured: the curves as they were measured.
        smooth: what is drawn thick: the smoothed curve, or the smoothed mean of several.
        spread: how far several lie apart, None of one.
    """

    label: str
    color: int
    measured: tuple[Curve, ...]
    smooth: Curve
    spread: Spread | None = None


@final
@dataclass(frozen=True)
class Chart:
    """The lines of one tag.

    Attributes:
        tag: the tag.
        lines: the lines, each with a value at least.
    """

    tag: str
    lines: tuple[Line, ...]

    def curves(self) -> Iterator[Curve]:
        """Yield all that is drawn."""
        for line in self.lines:
            yield from (*line.measured, line.smooth)
            if line.spread is not None:
                yield from (line.spread.lower, line.spread.upper)

    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the least and the largest step, and the least and the largest value, never the same."""
        steps, values = zip(*self.curves(), strict=True)
        return _limits(np.concatenate(steps)), _limits(np.concatenate(values))


def _limits(numbers: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(numbers.min()), float(numbers.max())
    margin = 0.0 if low < high else abs(low) / 2 or 0.5
    return low - margin, high + margin


def smoothed(curve: Curve, factor: float) -> Curve:
    """Return a curve's exponential moving average, which is not drawn to zero at its beginning, as TensorBoard has it.

    Args:
        curve: the curve.
        factor: how much of what was before stays at each value: 0 leaves it as it is, 0.9 is very smooth.
    """
    if factor <= 0 or len(curve.values) < 3:
        return curve
    made = np.empty_like(curve.values)
    sum_, weight = 0.0, 0.0
    for place, value in enumerate(curve.values.tolist()):
        sum_, weight = factor * sum_ + (1 - factor) * value, factor * weight + (1 - factor)
        made[place] = sum_ / weight
    return Curve(curve.steps, made)


def thinned(curve: Curve, most: int) -> Curve:
    """Return a curve of so many points at most, which has the least and the largest value of each part of it."""
    count = len(curve.steps)
    if count <= most or most < 4:
        return Curve(curve.steps[:most], curve.values[:most]) if most < 4 else curve
    edges = np.linspace(0, count, most // 2 + 1).astype(int)
    kept = {0, count - 1}
    for start, stop in pairwise(edges.tolist()):
        part = curve.values[start:stop]
        kept |= {start + int(part.argmin()), start + int(part.argmax())}
    places = np.array(sorted(kept))
    return Curve(curve.steps[places], curve.values[places])
