"""What several trackers share comes to what one tracker would have told of all of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast import KeepfastWarning
from keepfast.tracking.tracker import Tracker

TAGS = "Loss / a", "b (max)", "c (MIN)"
VALUES = st.floats() | st.sampled_from([1e308, -1e308, math.nan, math.inf])


def carried(trackers: Sequence[Tracker]) -> list[Any]:
    """Return what trackers share, as it goes from one process to another."""
    return [json.loads(json.dumps(tracker.share())) for tracker in trackers]


@pytest.mark.filterwarnings("ignore::keepfast.KeepfastWarning")
@given(st.lists(st.lists(st.tuples(st.sampled_from(TAGS), VALUES), max_size=12), min_size=1, max_size=4))
def test_shares_are_joined_as_if_one_had_tracked_all(tracked: list[list[tuple[str, float]]]) -> None:
    """Means by count, extremes, tags that some lack, values too large to be added up; what is not finite is counted."""
    trackers, whole = [Tracker() for _ in tracked], Tracker()
    for tracker, values in zip(trackers, tracked, strict=True):
        for tag, value in values:
            tracker.track(tag, value)
            whole.track(tag, value)
    expected, found = whole.statistics(), trackers[0].joined(carried(trackers))
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-300) or _cancels(found, expected, tracked)
    assert trackers[0].nonfinite == whole.nonfinite
    assert not any(tracker.pending for tracker in trackers)


def _cancels(found: dict[str, float], expected: dict[str, float], tracked: list[list[tuple[str, float]]]) -> bool:
    """Say whether means differ by no more than rounding, beside the numbers that they are of."""
    largest = dict.fromkeys(found, 0.0)
    for tag, value in (each for values in tracked for each in values):
        if math.isfinite(value):
            largest[tag] = max(largest[tag], abs(value))
    return all(abs(found[tag] - expected[tag]) <= 1e-12 * largest[tag] for tag in found)


@pytest.mark.parametrize("team", [False, True])
def test_episodes_are_joined_by_count(team: bool) -> None:
    """Each environment's episodes count once, in whatever process it is stepped; so do rewards by agent."""
    rng = np.random.default_rng(0)
    rewards, ends = rng.integers(-5, 5, (40, 6)).astype(float), rng.random((40, 6)) < 0.2
    parts = slice(0, 1), slice(1, 3), slice(3, 6)
    trackers, whole = [Tracker() for _ in parts], Tracker()

    def record(tracker: Tracker, row: int, envs: slice) -> None:
        reward: Any = rewards[row, envs]
        if team:
            reward = {"one": reward, "other": 2 * reward}
        tracker.episodes.record(reward, ends[row, envs], np.zeros_like(ends[row, envs]))

    for row in range(40):
        record(whole, row, slice(None))
        for tracker, envs in zip(trackers, parts, strict=True):
            record(tracker, row, envs)
    expected = whole.statistics()
    assert trackers[1].joined(carried(trackers)) == pytest.approx(expected)
    assert len(expected) == (27 if team else 9)
    assert trackers[1].episodes.ended_in_last_interval == whole.episodes.ended_in_last_interval == int(ends.sum())


def test_only_who_writes_tells_of_what_is_not_finite() -> None:
    """The others would tell it again."""
    one, other = Tracker(), Tracker()
    one.track("a", math.nan)
    other.track("a", math.inf)
    shares = carried([one, other])
    assert one.joined(shares, tells=False) == {}
    with pytest.warns(KeepfastWarning, match=r"2 value\(s\) of `a` were not finite"):
        other.joined(shares)
    assert (one.nonfinite, other.nonfinite) == ({}, {"a": 2})


def test_a_share_leaves_running_episodes_under_way() -> None:
    """They end in a later interval, with all their rewards."""
    tracker = Tracker()
    for done in (False, True):
        tracker.episodes.record(np.ones(2), np.full(2, done), np.zeros(2, bool))
        found = tracker.joined(carried([tracker]))
        assert found.get("Reward / Total reward (mean)") == (2.0 if done else None)
    assert tracker.joined(carried([tracker])) == {}
