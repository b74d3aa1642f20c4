"""A tag asks for its statistic however it is written."""

from __future__ import annotations

import pytest

from keepfast.tracking.tracker import Tracker

MEANT = {
    "max": ["x (max)", "x (MAX)", "x (Max)", "x (max) ", "x ( max )", "x(max)\t", "x (maximum)", "x (MAX.)"],
    "min": ["x (min)", "x (MIN)", "x (Min) ", "x ( min)", "x (Minimum)"],
    "mean": ["x", "x (mean)", "x (MEAN)", "x max", "x (max) of y", "x (maxi)", "x (min", "max)", "(climax)"],
}


@pytest.mark.parametrize(("statistic", "tag"), [(name, tag) for name, tags in MEANT.items() for tag in tags])
def test_a_tag_is_taken_as_it_is_meant(statistic: str, tag: str) -> None:
    """In any case and with any blanks; it is written as it was given."""
    tracker = Tracker()
    for value in (1.0, 6.0, 2.0):
        tracker.track(tag, value)
    assert tracker.statistics() == {tag: {"max": 6.0, "min": 1.0, "mean": 3.0}[statistic]}
