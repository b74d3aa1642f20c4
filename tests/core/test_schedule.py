"""When something is due."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.schedule import Schedule


@pytest.mark.parametrize(
    ("value", "timesteps", "interval"),
    [
        ("auto", 100_000, 1000),
        ("auto", 150, 1),
        ("auto", 5, 1),
        ("auto", 0, 1),
        ("auto", None, 777),
        (25, 100_000, 25),
        (25, None, 25),
        (0, 100_000, 0),
        (-5, None, 0),
    ],
)
def test_intervals_mean_what_the_documentation_says(
    value: int | Literal["auto"], timesteps: int | None, interval: int
) -> None:
    """An int is in timesteps, 0 or less disables, "auto" is a share of the training and at least 1."""
    schedule = Schedule.of(value, timesteps, samples=100, fallback=777)
    assert schedule.interval == interval
    assert schedule.enabled is (interval > 0)


@given(interval=st.integers(1, 50), steps=st.integers(0, 500))
def test_it_is_due_at_every_multiple(interval: int, steps: int) -> None:
    """So often as the interval fits into the completed timesteps."""
    schedule = Schedule(interval)
    assert sum(schedule.due(completed) for completed in range(1, steps + 1)) == steps // interval


def test_what_is_disabled_is_never_due() -> None:
    """Interval 0 divides nothing."""
    assert not any(Schedule(0).due(completed) for completed in range(10))
