"""Curves drawn with braille characters, each of which has two columns and four rows of dots."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from keepfast.metrics.spread import Curve

_ACROSS, _DOWN = 2, 4
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""Which bit of a character from U+2800 on stands for the dot of a row and a column (Unicode, chapter 21.1)."""

_BLANK = 0x2800

Limits = tuple[float, float]


@final
class Canvas:
    """Draws curves; where several meet in one character, it has the style of the last.

    Args:
        width: characters in a row.
        height: rows.
        steps: the steps at the left and the right border.
        values: the values at the lower and the upper border.
    """

    def __init__(self, width: int, height: int, steps: Limits, values: Limits) -> None:
        self._dots = np.zeros((height * _DOWN, width * _ACROSS), np.bool_)
        self._styles = np.full((height, width), "", object)
        self._steps, self._values = steps, values

    def draw(self, curve: Curve, style: str) -> None:
        """Draw a curve of at least one point as a line."""
        lower, upper = self._extents(curve)
        rows = np.arange(len(self._dots))[:, None]
        self._add((rows >= lower) & (rows <= upper), style)

    def shade(self, lower: Curve, upper: Curve, style: str) -> None:
        """Fill what lies between two curves of the same steps with every other dot."""
        rows, columns = np.indices(self._dots.shape)
        inside = (rows >= self._extents(lower)[0]) & (rows <= self._extents(upper)[1])
        self._add(inside & ((rows + columns) % 2 == 0), style)

    def _add(self, dots: NDArray[np.bool_], style: str) -> None:
        self._dots |= dots
        self._styles[self._cells(dots).any(axis=(1, 3))] = style

    def _cells(self, dots: NDArray[Any]) -> NDArray[Any]:
        height, width = self._styles.shape
        return dots.reshape(height, _DOWN, width, _ACROSS)

    def _extents(self, curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and the highest dot of a curve in each column, counted from below; a spike is not lost."""
        height, width = self._dots.shape
        x, y = _scaled(curve.steps, self._steps, width), _scaled(curve.values, self._values, height)
        borders = np.arange(width - 1) + 0.5
        borders = borders[(borders > x[0]) & (borders < x[-1])]
        crossings = np.interp(borders, x, y)  # where the line leaves one column and enters the next
        columns = np.concatenate([np.rint(x), borders - 0.5, borders + 0.5]).astype(np.intp)
        dots = np.rint(np.concatenate([y, crossings, crossings]))
        lower, upper = np.full(width, np.inf), np.full(width, -np.inf)
        np.minimum.at(lower, columns, dots)
        np.maximum.at(upper, columns, dots)
        return lower, upper

    def lines(self, *, ascii_only: bool = False) -> list[Text]:
        """Return the rows from the top, with asterisks where the output has no braille characters."""
        codes = (self._cells(self._dots[::-1]) * _BITS[:, None, :]).sum(axis=(1, 3))
        lines = []
        for row, styles in zip(codes.tolist(), self._styles[::-1].tolist(), strict=True):
            line = Text()
            for style, group in groupby(zip(styles, row, strict=True), key=itemgetter(0)):
                line.append("".join(_character(code, ascii_only=ascii_only) for _, code in group), style)
            lines.append(line)
        return lines


def _scaled(positions: NDArray[np.float64], limits: Limits, dots: int) -> NDArray[np.float64]:
    low, high = limits
    return np.clip((positions - low) / (high - low), 0, 1) * (dots - 1)


def _character(code: int, *, ascii_only: bool) -> str:
    if code == 0:
        return " "
    return "*" if ascii_only else chr(_BLANK + code)
