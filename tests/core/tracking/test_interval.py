"""What was added up on a device counts as if each of its numbers had been tracked here."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast import Aggregate, EpisodeAggregate, Interval, InvalidValue, codec
from keepfast.tracking.tracker import Tracker

VALUES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf), min_size=1, max_size=20)
TAGS = ("Loss / x", "Loss / x (max)", "Loss / x (min)")


def aggregate(values: Sequence[float]) -> Aggregate:
    finite = [value for value in values if math.isfinite(value)]
    extremes = max(finite, default=-math.inf), min(finite, default=math.inf)
    return Aggregate(len(finite), sum(finite), *extremes, len(values) - len(finite))


@given(parts=st.lists(VALUES, min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore::keepfast.KeepfastWarning")
def test_added_up_or_one_by_one_is_the_same(parts: list[list[float]]) -> None:
    """Mean, maximum and minimum, what is not finite left out and counted, mixed with values that were tracked."""
    one_by_one, added_up = Tracker(), Tracker()
    for number, part in enumerate(parts):
        for tag in TAGS:
            for value in part:
                one_by_one.track(tag, value)
        if number % 2:
            for tag in TAGS:
                for value in part:
                    added_up.track(tag, value)
        else:
            added_up.merge(Interval({tag: aggregate(part) for tag in TAGS}))
    assert added_up.pending == one_by_one.pending
    expected, found = one_by_one.statistics(), added_up.statistics()
    assert found.keys() == expected.keys()
    for tag, value in expected.items():
        assert found[tag] == pytest.approx(value, rel=1e-9, abs=1e-6)
    assert added_up.nonfinite == one_by_one.nonfinite


def test_sums_beyond_the_range_of_a_float_have_a_mean() -> None:
    """As those have that were tracked one by one."""
    tracker = Tracker()
    for _ in range(3):
        tracker.merge(Interval({"Loss / x": Aggregate(1, 1.5e308, 1.5e308, 1.5e308)}))
    assert tracker.statistics() == {"Loss / x": pytest.approx(1.5e308)}


def test_episodes_are_those_of_recorded_steps() -> None:
    """Rewards, returns and lengths; at most the last hundred episodes of an interval."""
    recorded, added_up = Tracker(), Tracker()
    rewards = np.random.default_rng(0).normal(size=(130, 2))
    for row in rewards:
        recorded.episodes.record(row, np.ones(2, bool), np.zeros(2, bool))
    flat = rewards.reshape(-1)
    for part in (flat[:160], flat[160:]):
        latest = part[-100:]
        episodes = EpisodeAggregate(aggregate(part.tolist()), latest.tolist(), [1] * len(latest), len(part))
        added_up.merge(Interval(episodes=episodes))
    expected, found = recorded.statistics(), added_up.statistics()
    assert found == {tag: pytest.approx(value) for tag, value in expected.items()}
    assert added_up.episodes.ended_in_last_interval == recorded.episodes.ended_in_last_interval == 260


def test_an_interval_is_in_the_state_of_a_checkpoint() -> None:
    """A tracker that takes it back goes on with it."""
    episodes = EpisodeAggregate(Aggregate(2, 3.0, 2.0, 1.0), [3.0], [2], 1)
    first, second = Tracker(), Tracker()
    first.merge(Interval({"Loss / x": Aggregate(2, 3.0, 2.0, 1.0)}, episodes))
    second.load_state_dict(codec.loads(codec.dumps(first.state_dict())))
    assert second.statistics() == first.statistics()


def test_a_tag_is_a_string() -> None:
    """As one that is tracked by itself."""
    with pytest.raises(InvalidValue, match="a tag is 3"):
        Tracker().merge(Interval({3: Aggregate()}))  # type: ignore[dict-item]
