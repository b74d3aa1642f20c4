"""Adds up numbers on the device, so that an interval's statistics are all that comes to the host.

The numbers of up to `ROWS` steps are kept in rows, and folded into sums together. Sums carry what rounding takes off
them, and large numbers are summed up apart in another unit, so that in single precision a mean is as good as one that
was summed up in double precision on the host.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from keepfast import Aggregate

ROWS = 256
"""How many steps are kept at most before they are folded."""

_LARGE = 2.0**64
"""From this size on, numbers are summed up in its unit."""


@final
class Sums(NamedTuple):
    """What numbers were added up to, each entry of shape (columns,), or () where there is one column.

    Attributes:
        sums: of shape (4, columns): the sum of numbers, what rounding took off it, and both of large numbers.
        extremes: of shape (2, columns): the maximum and the minimum.
        counts: of shape (2, columns): how many numbers were finite, and how many were not.
    """

    sums: jax.Array
    extremes: jax.Array
    counts: jax.Array


def no_sums(columns: int, dtype: Any) -> Sums:
    """Return what no numbers add up to."""
    extremes = jnp.stack([jnp.full(columns, -jnp.inf, dtype), jnp.full(columns, jnp.inf, dtype)])
    return Sums(jnp.zeros((4, columns), dtype), extremes, jnp.zeros((2, columns), jnp.uint32))


def add_rows(sums: Sums, rows: jax.Array, counted: jax.Array) -> Sums:
    """Add rows of numbers.

    Args:
        sums: what was added up before.
        rows: of shape (rows, columns).
        counted: of the same shape; whether a number counts.
    """
    finite = counted & jnp.isfinite(rows)
    exact = jnp.where(finite, rows, 0)
    large = jnp.abs(exact) >= _LARGE
    parts = jnp.concatenate([jnp.where(large, 0, exact), jnp.where(large, exact / _LARGE, 0)], axis=1)
    zero = jnp.zeros((), rows.dtype)
    high, low = jax.lax.reduce((parts, jnp.zeros_like(parts)), (zero, zero), _add_exactly, (0,))
    columns = rows.shape[1]
    added = jnp.stack([high[:columns], low[:columns], high[columns:], low[columns:]])
    small, small_low = _add_exactly((sums.sums[0], sums.sums[1]), (added[0], added[1]))
    big, big_low = _add_exactly((sums.sums[2], sums.sums[3]), (added[2], added[3]))
    maximum = jnp.maximum(sums.extremes[0], jnp.where(finite, rows, -jnp.inf).max(axis=0))
    minimum = jnp.minimum(sums.extremes[1], jnp.where(finite, rows, jnp.inf).min(axis=0))
    numbers = jnp.stack([finite.sum(axis=0), (counted & ~finite).sum(axis=0)]).astype(jnp.uint32)
    return Sums(jnp.stack([small, small_low, big, big_low]), jnp.stack([maximum, minimum]), sums.counts + numbers)


def add_exactly(high: jax.Array, low: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Add numbers to a sum; return the sum, and what rounding took off it."""
    return _add_exactly((high, low), (number, jnp.zeros_like(number)))


def _add_exactly(one: Any, other: Any) -> tuple[Any, Any]:
    """Add two sums, each with what rounding took off it (Knuth's sum of two)."""
    high = one[0] + other[0]
    part = high - one[0]
    lost = (one[0] - (high - part)) + (other[0] - part)
    return high, one[1] + other[1] + lost


def aggregates(sums: Sums) -> list[Aggregate]:
    """Return what was added up, on the host, one for each column."""
    parts = np.asarray(sums.sums, np.float64)
    totals = parts[0] + parts[1] + (parts[2] + parts[3]) * _LARGE
    extremes, counts = np.asarray(sums.extremes, np.float64), np.asarray(sums.counts)
    return [
        Aggregate(int(count), float(total), float(maximum), float(minimum), int(nonfinite))
        for count, total, maximum, minimum, nonfinite in zip(counts[0], totals, *extremes, counts[1], strict=True)
    ]
