"""A chart as SVG, in a page or by itself, with no library."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import final

import numpy as np

from keepfast.errors import shown
from keepfast.metrics.spread import Curve
from keepfast.pictures.chart import COLORS, Chart, Line, thinned

_WIDTH, _HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 8, 10, 26
"""What is left for the numbers at the axes."""

_TICKS = 5

LIGHT = ("#2563eb", "#dc2626", "#15803d", "#9333ea", "#b45309", "#0e7490", "#be185d", "#4d7c0f")
DARK = ("#60a5fa", "#f87171", "#4ade80", "#c084fc", "#fbbf24", "#22d3ee", "#f472b6", "#a3e635")
"""The colours of lines on light and on dark ground, each well told from its ground."""

STYLE = (
    ".m{fill:none;stroke-width:1;opacity:.35}.s{fill:none;stroke-width:2.2}.b{stroke:none;opacity:.18}"
    ".p{stroke:none}.g{stroke:currentColor;stroke-width:1;opacity:.14}"
    "svg text{fill:currentColor;font:12px system-ui,sans-serif;opacity:.75}"
)
"""How lines look, wherever they are."""


def colors(scheme: tuple[str, ...]) -> str:
    """Return what gives each line its colour."""
    return "".join(
        f".c{place}{{stroke:{color}}}.b.c{place},.p.c{place}{{fill:{color};stroke:none}}.k{place}{{background:{color}}}"
        for place, color in enumerate(scheme)
    )


def drawn(chart: Chart, points: int) -> str:
    """Return a chart as an element of SVG, without its title and colours.

    Args:
        chart: the chart.
        points: how many points of each curve are drawn at most.
    """
    (first, last), (low, high) = chart.limits()
    parts = [*_axes((first, last), (low, high))]
    place = _Place(first, last, low, high)
    for line in chart.lines:
        parts += _line(line, place, points)
    label = html.escape(f"{shown(chart.tag)} over the timesteps from {first:.6g} to {last:.6g}")
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def file_of(chart: Chart, points: int = 500) -> str:
    """Return a chart as a file of its own, with title and legend, on white or, where that is wanted, on dark ground."""
    dark = f"@media(prefers-color-scheme:dark){{svg{{background:#111;color:#eee}}{colors(DARK)}}}"
    style = f"svg{{background:#fff;color:#111}}{STYLE}{colors(LIGHT)}{dark}"
    rows = [f'<text x="{_LEFT}" y="-10" style="font-size:16px;opacity:1">{html.escape(shown(chart.tag))}</text>']
    for number, line in enumerate(chart.lines):
        at = _HEIGHT + 18 + 18 * number
        rows.append(f'<rect class="p c{line.color % COLORS}" x="{_LEFT}" y="{at - 10}" width="10" height="10"/>')
        rows.append(f'<text x="{_LEFT + 16}" y="{at}">{html.escape(shown(line.label))}</text>')
    inner = drawn(chart, points).partition(">")[2].removesuffix("</svg>")
    height = _HEIGHT + 40 + 18 * len(chart.lines)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -32 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
    )
    return f"{head}<style>{style}</style>{''.join(rows)}{inner}</svg>\n"


@final
class _Place:
    """Where steps and values are in the picture, in whole units of it."""

    def __init__(self, first: float, last: float, low: float, high: float) -> None:
        self._across = (_WIDTH - _LEFT - _RIGHT) / (last - first), first
        self._down = (_HEIGHT - _TOP - _BOTTOM) / (high - low), low

    def of(self, curve: Curve) -> str:
        """Return the points of a curve, those in one place once."""
        x = np.rint((curve.steps - self._across[1]) * self._across[0] + _LEFT).astype(int)
        y = np.rint(_HEIGHT - _BOTTOM - (curve.values - self._down[1]) * self._down[0]).astype(int)
        pairs = zip(x.tolist(), y.tolist(), strict=True)
        return " ".join(f"{across},{down}" for across, down in dict.fromkeys(pairs))


def _line(line: Line, place: _Place, points: int) -> Iterator[str]:
    color = line.color % COLORS
    if line.spread is not None and len(line.spread.steps) > 1:
        upper, lower = thinned(line.spread.upper, points), thinned(line.spread.lower, points)
        back = Curve(lower.steps[::-1], lower.values[::-1])
        yield f'<polygon class="b c{color}" points="{place.of(upper)} {place.of(back)}"/>'
    for curve in line.measured:
        yield f'<polyline class="m c{color}" points="{place.of(thinned(curve, points))}"/>'
    if len(line.smooth.steps) == 1:
        across, _, down = place.of(line.smooth).partition(",")
        yield f'<circle class="p c{color}" cx="{across}" cy="{down}" r="3"/>'
    else:
        yield f'<polyline class="s c{color}" points="{place.of(thinned(line.smooth, points))}"/>'


def _axes(steps: tuple[float, float], values: tuple[float, float]) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    for place in range(_TICKS):
        part = place / (_TICKS - 1)
        y, x = bottom - part * (bottom - _TOP), _LEFT + part * (_WIDTH - _LEFT - _RIGHT)
        value, step = values[0] + part * (values[1] - values[0]), steps[0] + part * (steps[1] - steps[0])
        anchor = "end" if place == _TICKS - 1 else "middle" if place else "start"
        yield f'<path class="g" d="M{_LEFT} {y:.0f}H{_WIDTH - _RIGHT}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{value:.4g}</text>'
        yield f'<text x="{x:.0f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{step:.6g}</text>'
