"""When something is due."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast.runs.schedule import Schedule, Turns


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


def taken(schedules: list[Schedule], steps: Iterable[int], completed: int = 0) -> list[list[int]]:
    """Return at which steps each schedule is due, asking only where a loop would ask."""
    turns = Turns(schedules, completed)
    found: list[list[int]] = [[] for _ in schedules]
    for step in steps:
        if not turns.start <= step < turns.end:
            for steps_due, due in zip(found, turns.take(step), strict=True):
                steps_due += [step] * due
    return found


@given(intervals=st.lists(st.integers(0, 20), min_size=1, max_size=3), start=st.integers(0, 50))
def test_a_loop_of_single_steps_is_due_at_each_multiple(intervals: list[int], start: int) -> None:
    """Whatever the timestep that it goes on from, and whatever else is due."""
    schedules = [Schedule(interval) for interval in intervals]
    steps = range(start + 1, start + 100)
    assert taken(schedules, steps, start) == [[step for step in steps if schedule.due(step)] for schedule in schedules]


@given(interval=st.integers(1, 50), strides=st.lists(st.integers(1, 120), max_size=50), start=st.integers(0, 100))
def test_a_stride_over_a_multiple_is_due_once(interval: int, strides: list[int], start: int) -> None:
    """At the step that passes it, however many multiples it passes."""
    steps = list(accumulate(strides, initial=start))
    expected = [after for before, after in pairwise(steps) if after // interval > before // interval]
    assert taken([Schedule(interval)], steps[1:], start) == [expected]


def test_a_loop_that_starts_over_is_due_again() -> None:
    """Its multiples count as before, and the step back itself is due only at one of them."""
    assert taken([Schedule(10)], [*range(1, 101), *range(1, 21)]) == [[*range(10, 101, 10), 10, 20]]
    assert taken([Schedule(10)], [95, 100, 40, 41, 50]) == [[95, 100, 40, 50]]


def test_a_count_that_wavers_is_not_due_over_and_over() -> None:
    """Steps of several actors come out of order around a multiple, which is due once."""
    steps = [8, 12, 9, 13, 10, 9, 14, 19, 20, 18, 21]
    assert taken([Schedule(10)], steps) == [[12, 20]]
    assert taken([Schedule(10), Schedule(1)], steps)[0] == [12, 20]  # also where another has all steps looked at
