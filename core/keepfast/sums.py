"""Sums beyond the range of a float, kept in a larger unit so that their means are finite."""

from __future__ import annotations

SMALL = 2.0**-64
"""What numbers are multiplied by once their sum is too large; a sum of 2**64 of them is not too large any more."""


def mean(total: float, scale: float, count: int, minimum: float, maximum: float) -> float:
    """Return the mean of numbers from their sum, which was multiplied by `scale`; it lies among the numbers."""
    found = total / count / scale
    return found if scale == 1.0 else min(max(found, minimum), maximum)
