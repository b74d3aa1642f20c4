"""Several runs' curves of one tag as one: their mean, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from keepfast.metrics.frames import Series

SEEDS = "seeds"
"""What the curves are of whose mean a run of many seeds wrote."""


@final
class Curve(NamedTuple):
    """One finite value at each of some rising steps.

    Attributes:
        steps: float64, of shape (n,).
        values: float64, of shape (n,).
    """

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


@final
class Spread(NamedTuple):
    """The mean of several curves, and how far they lie apart.

    Attributes:
        steps: float64, of shape (n,).
        mean: float64, of shape (n,).
        deviation: float64, of shape (n,); that of a sample, with one degree of freedom less than there are curves.
        of: how many curves they are, or what of.
        measure: what the deviation is.
    """

    steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    of: str
    measure: str = "standard deviation"

    @property
    def lower(self) -> Curve:
        """Return the mean less the deviation."""
        return Curve(self.steps, self.mean - self.deviation)

    @property
    def upper(self) -> Curve:
        """Return the mean and the deviation together."""
        return Curve(self.steps, self.mean + self.deviation)


def curve_of(series: Series) -> Curve:
    """Return what can be drawn of a series: its finite values, of several at one step the last."""
    finite = np.isfinite(series.values)
    steps, values = series.steps[finite].astype(np.float64), series.values[finite]
    last = np.append(steps[1:] != steps[:-1], True)[: len(steps)]
    return Curve(steps[last], values[last])


def spread_of(curves: Sequence[Curve]) -> Spread:
    """Return the mean and the standard deviation of curves, at every step that at least two of them reach.

    Between two of its steps a curve is taken for a straight line; beyond its ends it does not count.
    """
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    lines = [np.interp(steps, *curve, left=np.nan, right=np.nan) for curve in curves if len(curve.steps)]
    table = np.array(lines).reshape(len(lines), len(steps))
    shared = np.isfinite(table).sum(axis=0) > 1
    table = table[:, shared]
    return Spread(steps[shared], np.nanmean(table, axis=0), np.nanstd(table, axis=0, ddof=1), f"{len(curves)}")


def spread_of_seeds(mean: Curve, error: Curve) -> Spread:
    """Return the mean of seeds and its standard error as a run of many wrote them, at the steps that both have."""
    steps, of_mean, of_error = np.intersect1d(mean.steps, error.steps, return_indices=True)
    return Spread(steps, mean.values[of_mean], error.values[of_error], SEEDS, "standard error")
