"""What ``keepfast plot`` shows: the curves of one tag, drawn in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import final

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from keepfast.metrics.spread import SEEDS, Curve, Spread
from keepfast.pictures.braille import Canvas, Limits

_COLORS = ("cyan", "magenta", "green", "yellow", "blue", "red")
MEAN, BAND = "bold", "dim"
"""Styles of the mean and of the band around it that show on light and on dark terminals."""

_HEIGHT = 16
"""Rows of a picture, without its axes."""


@final
@dataclass(frozen=True)
class Picture:
    """The curves of one tag.

    Attributes:
        tag: the tag.
        curves: the curve of each run by its label, none of them empty.
        spread: mean and spread, where at least two of the curves have steps in common, or a curve is one of many seeds.
    """

    tag: str
    curves: Mapping[str, Curve]
    spread: Spread | None

    def limits(self) -> tuple[Limits, Limits]:
        """Return the least and the largest step, and the least and the largest value."""
        curves = list(self.curves.values())
        if self.spread is not None:
            curves += [self.spread.lower, self.spread.upper]
        steps, values = zip(*curves, strict=True)
        return _limits(np.concatenate(steps)), _limits(np.concatenate(values))


def _limits(numbers: NDArray[np.float64]) -> Limits:
    low, high = float(numbers.min()), float(numbers.max())
    margin = 0.0 if low < high else abs(low) / 2 or 0.5  # a single number lies in the middle
    return low - margin, high + margin


def drawn(picture: Picture, width: int, *, ascii_only: bool = False) -> Iterator[Text]:
    """Yield the lines of a picture, and below them a line for each curve.

    Args:
        picture: what to draw.
        width: the characters of a line.
        ascii_only: whether the output takes no braille characters.
    """
    steps, values = picture.limits()
    labels = [f"{value:.4g}" for value in (values[1], sum(values) / 2, values[0])]
    margin = max(map(len, labels))
    canvas = Canvas(max(width - margin - 1, 10), _HEIGHT, steps, values)
    if picture.spread is not None:
        canvas.shade(picture.spread.lower, picture.spread.upper, BAND)
    for curve, color in zip(picture.curves.values(), cycle(_COLORS), strict=False):
        canvas.draw(curve, color)
    if picture.spread is not None:
        canvas.draw(Curve(picture.spread.steps, picture.spread.mean), MEAN)
    shown = {0: labels[0], _HEIGHT // 2: labels[1], _HEIGHT - 1: labels[2]}
    yield Text(picture.tag, style="bold")
    for row, line in enumerate(canvas.lines(ascii_only=ascii_only)):
        yield Text.assemble(shown.get(row, "").rjust(margin), " ", line)
    first, last = f"{steps[0]:.10g}", f"{steps[1]:.10g}"
    yield Text(" " * (margin + 1) + first + last.rjust(max(width - margin - 1, 10) - len(first)))


def legend(picture: Picture) -> Iterator[Text]:
    """Yield a line for each curve, with its last value, and one for mean and spread."""
    width = max(map(len, picture.curves))
    for (label, curve), color in zip(picture.curves.items(), cycle(_COLORS), strict=False):
        end = f"{curve.values[-1]:.6g} at {curve.steps[-1]:.10g}"
        yield Text.assemble((label.ljust(width), color), f"  {end}")
    if (spread := picture.spread) is not None:
        label = f"mean of {spread.of}".ljust(width)
        end = f"{spread.mean[-1]:.6g} +/- {spread.deviation[-1]:.3g} at {spread.steps[-1]:.10g}"
        yield Text.assemble((label, MEAN), f"  {end}", f" ({spread.measure})" if spread.of == SEEDS else "")
