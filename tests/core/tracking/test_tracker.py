"""The tracker: values between two writes become statistics."""

from __future__ import annotations

import enum
import math
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast import InvalidValue, KeepfastWarning, codec
from keepfast.tracking.tracker import HELD_LIMIT, Tracker

TAGS = ("Loss / Policy loss", "Loss / Policy loss (max)", "Loss / Policy loss (min)", "(max) / x", "é (mean)")
FINITE = st.floats(-1e6, 1e6) | st.sampled_from([1e16, -1e16, 1.0, 0.1])


def reference(tag: str, values: list[float]) -> float:
    """Return a tag's statistic as a reader of the documentation would compute it."""
    if tag.endswith("(max)"):
        return max(values)
    if tag.endswith("(min)"):
        return min(values)
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def in_some_form(value: float) -> st.SearchStrategy[Any]:
    return st.sampled_from([float, np.float64, np.asarray, lambda number: np.asarray([number])]).map(
        lambda form: form(value)
    )


TRACKED = st.lists(st.tuples(st.sampled_from(TAGS), FINITE.flatmap(in_some_form)), max_size=40)


@given(tracked=TRACKED)
def test_statistics_are_those_of_plain_python(tracked: list[tuple[str, Any]]) -> None:
    """Whatever the form of the values, each tag gets its mean, maximum or minimum, in the order they came."""
    tracker = Tracker()
    expected: dict[str, list[float]] = {}
    for tag, value in tracked:
        tracker.track(tag, value)
        expected.setdefault(tag, []).append(float(np.asarray(value).reshape(-1)[0]))
    assert tracker.statistics() == {tag: reference(tag, values) for tag, values in expected.items()}


@given(first=TRACKED, second=TRACKED, third=TRACKED)
def test_a_resumed_tracker_arrives_at_the_same_bits(first: list[Any], second: list[Any], third: list[Any]) -> None:
    """State taken at any point, through JSON, and loaded into a tracker with a past of its own, changes nothing."""
    whole, interrupted, resumed = Tracker(), Tracker(), Tracker()
    for tag, value in first:
        whole.track(tag, value)
        interrupted.track(tag, value)
    for tag, value in third:
        resumed.track(tag, value)
    resumed.load_state_dict(codec.loads(codec.dumps(interrupted.state_dict())))
    for tag, value in second:
        whole.track(tag, value)
        resumed.track(tag, value)
    assert resumed.statistics() == whole.statistics()


def test_an_interval_starts_empty() -> None:
    """A tag without data in an interval is not written, whatever came before."""
    tracker = Tracker()
    tracker.track("a", 1.0)
    assert tracker.pending
    assert tracker.statistics() == {"a": 1.0}
    assert not tracker.pending
    assert tracker.statistics() == {}


@pytest.mark.parametrize(
    "value",
    [2, True, np.int8(2), np.float16(2), np.True_, np.array(2), np.array([[2.0]]), np.array([True])],
    ids=repr,
)
def test_every_kind_of_number_is_tracked(value: Any) -> None:
    """Python numbers, NumPy scalars and arrays of one element all count as their value."""
    tracker = Tracker()
    tracker.track("a", value)
    assert tracker.statistics() == {"a": float(np.asarray(value).reshape(-1)[0])}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("3", r"`Loss / x` is no number: '3' \(str\)"),
        (None, r"`Loss / x` is no number: None \(NoneType\)"),
        ([1.0], r"`Loss / x` is no number: \[1.0\] \(list\)"),
        (1j, r"`Loss / x` is no number: 1j \(complex\)"),
        (np.array([1.0, 2.0]), r"`Loss / x` has the shape \(2,\)"),
        (np.zeros((0,)), r"`Loss / x` has the shape \(0,\)"),
        (np.array(1j), "`Loss / x` has the dtype complex128"),
        (np.complex64(1), "`Loss / x` has the dtype complex64"),
        (np.array("3"), "`Loss / x` has the dtype <U1"),
        (np.array(None), "`Loss / x` has the dtype object"),
        (np.datetime64("2026-01-01"), "`Loss / x` has the dtype datetime64"),
        (10**400, "`Loss / x` is too large"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_number_is_refused_at_once(value: Any, message: str) -> None:
    """The error comes from the call that gave the value, names the tag and what was given, and nothing is tracked."""
    tracker = Tracker()
    with pytest.raises(InvalidValue, match=message):
        tracker.track("Loss / x", value)
    assert not tracker.pending


def test_values_that_are_not_finite_stay_out_of_the_statistic_and_are_told_once() -> None:
    """NaN and infinities are counted; the first interval that has one warns, later ones only count."""
    tracker = Tracker()
    for value in (1.0, math.nan, 3.0, np.array(math.inf)):
        tracker.track("a", value)
    with pytest.warns(KeepfastWarning, match=r"2 value\(s\) of `a` were not finite") as warned:
        assert tracker.statistics() == {"a": 2.0}
    assert len(warned) == 1
    tracker.track("a", -math.inf)
    assert tracker.statistics() == {}
    assert tracker.nonfinite == {"a": 3}


def test_values_that_are_not_finite_are_told_at_close_where_more_came() -> None:
    """The tally counts the whole run, once, and says nothing of a tag of which all was told."""
    tracker = Tracker()
    for tag in ("a", "b"):
        tracker.track(tag, math.nan)
    with pytest.warns(KeepfastWarning):
        tracker.statistics()
    tracker.tell_tally()
    tracker.track("b", math.inf)
    tracker.statistics()
    with pytest.warns(KeepfastWarning, match=r"not finite, over the run: 2 of `b`$") as told:
        tracker.tell_tally()
    assert len(told) == 1
    tracker.tell_tally()


def test_each_tag_that_is_not_finite_is_told_of() -> None:
    """One tag's warning does not silence another's."""
    tracker = Tracker()
    tracker.track("a", math.nan)
    with pytest.warns(KeepfastWarning, match="`a`"):
        tracker.statistics()
    tracker.track("b", math.nan)
    with pytest.warns(KeepfastWarning, match="`b`"):
        tracker.statistics()


def test_a_changed_buffer_does_not_change_what_was_tracked() -> None:
    """A value is taken as it is at the call: loops reuse their buffers."""
    tracker = Tracker()
    buffer = np.array(1.0)
    tracker.track("a", buffer)
    buffer[...] = 5.0
    assert tracker.statistics() == {"a": 1.0}


def test_an_endless_interval_takes_bounded_memory() -> None:
    """After a million numbers and thousands of arrays hardly anything is held: they are folded as they come."""
    tracker = Tracker()
    tracker.track("number", 0.0)
    before = sys.getallocatedblocks()
    for count in range(1_000_000):
        tracker.track("number", float(count))
    for _ in range(20 * HELD_LIMIT):
        tracker.track("array", np.ones(1))
    assert sys.getallocatedblocks() - before < 4 * HELD_LIMIT
    statistics = tracker.statistics()
    assert statistics["array"] == 1.0
    assert statistics["number"] == pytest.approx(499_999.5, rel=1e-5)


def test_any_thread_may_track_and_nothing_is_lost() -> None:
    """Values tracked while statistics are taken count in that interval or the next, each once."""
    tracker = Tracker()
    count, threads, written = 20_000, 3, 0.0
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(name: int) -> None:
        for number in range(count):
            tracker.track("(max) shared", 1.0)
            tracker.track(f"{name} {number} (max)", 1.0)  # a tag of its own, so that each value can be counted
            if number % 50 == 0:
                tracker.track("array", np.ones(1))

    workers = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            written += sum(value for tag, value in tracker.statistics().items() if tag.endswith(" (max)"))
            tracker.state_dict()
    finally:
        sys.setswitchinterval(interval)
    written += sum(value for tag, value in tracker.statistics().items() if tag.endswith(" (max)"))
    assert written == count * threads


@pytest.mark.parametrize("form", [float, np.array], ids=["numbers", "arrays"])
@pytest.mark.parametrize("values", [[1.7e308, 1.7e308, 1.6e308], [-1.7e308] * 3, [1.7e308] * 3 + [-1.7e308] * 2])
def test_a_mean_is_finite_though_the_sum_is_not(values: list[float], form: Any) -> None:
    """Numbers near the largest float have the mean that they have, also where a resume cuts the interval."""
    whole, cut = Tracker(), Tracker()
    for number, value in enumerate(values):
        whole.track("a", form(value))
        cut.track("a", form(value))
        if number == 1:
            state = codec.loads(codec.dumps(cut.state_dict()))
            cut = Tracker()
            cut.load_state_dict(state)
    (found,) = whole.statistics().values()
    assert found == pytest.approx(math.fsum(value / len(values) for value in values))
    assert cut.statistics() == {"a": found}


def test_the_state_of_an_earlier_version_is_taken() -> None:
    """Statistics whose state has no unit of the sum are in ones."""
    tracker = Tracker()
    tracker.track("a", 3.0)
    state = tracker.state_dict()
    state["statistics"] = {tag: values[:5] for tag, values in state["statistics"].items()}
    del state["episodes"]["scale"]
    other = Tracker()
    other.load_state_dict(state)
    assert other.statistics() == {"a": 3.0}


class Tag(str, enum.Enum):  # noqa: UP042  (as programs of the field have them)
    LOSS = "Loss / x"


class Name(enum.StrEnum):
    LOSS = "Loss / x"


@pytest.mark.parametrize("tag", [Tag.LOSS, Name.LOSS, np.str_("Loss / x")], ids=repr)
def test_a_tag_may_be_of_a_string_class_of_its_own(tag: str) -> None:
    """Enumerations and NumPy's strings are taken as the plain string that they hold."""
    tracker = Tracker()
    tracker.track(tag, 1.0)
    tracker.track("Loss / x", 3.0)
    statistics = tracker.statistics()
    assert statistics == {"Loss / x": 2.0}
    assert [type(tag) for tag in statistics] == [str]
