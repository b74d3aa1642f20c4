"""Metrics are asked for by runs, files and lists, and by tags and regular expressions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import keepfast
from tests.core.metrics.test_reading import event, simple

TAGS = ["Loss / Policy loss", "Loss / Value loss", "Reward / Total reward (max)", "Reward / Total reward (mean)", "a.b"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a directory with two runs, of which the second has two event files and a tag less."""
    for name, parts in (("one", [TAGS]), ("two", [TAGS[:2], TAGS[2:4]])):
        (tmp_path / name).mkdir()
        for number, tags in enumerate(parts):
            events = b"".join(event(1, 10.0, simple(tag, 1.0)) for tag in tags)
            (tmp_path / name / f"events.out.tfevents.{number}").write_bytes(events)
    (tmp_path / "two" / "notes.txt").write_text("x")
    return tmp_path


def found(runs: Path, pattern: Any, tags: Any = None) -> dict[str, list[str]]:
    return {str(path.relative_to(runs)): list(series) for path, series in keepfast.iter_metrics(pattern, tags)}


def test_runs_come_by_pattern_by_file_and_by_list(runs: Path) -> None:
    """A file by itself, or all of a run together; in the order of the list, each once."""
    first, second = (f"two/events.out.tfevents.{number}" for number in (0, 1))
    assert found(runs, f"{runs}/*/events.out.*") == {
        "one/events.out.tfevents.0": sorted(TAGS),
        first: TAGS[:2],
        second: TAGS[2:4],
    }
    assert list(found(runs, f"{runs}/**")) == ["one", "two"]
    assert found(runs, runs / second) == {second: TAGS[2:4]}
    assert list(found(runs, [runs / "two", f"{runs}/*"])) == ["two", "one"]
    with pytest.raises(keepfast.NotFound, match="no run with metrics matches"):
        found(runs, [runs / "one", runs / "two" / "notes.txt"])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("Loss / .*", TAGS[:2]),
        (re.compile("value", re.IGNORECASE), TAGS[1:2]),
        (["Loss / Value loss", r"\(max\)$"], TAGS[1:3]),
        ("Reward / .* (mean)", TAGS[3:4]),
        ("Reward / Total reward (max)", TAGS[2:3]),
        ("^Reward|^Loss / P", [TAGS[0], *TAGS[2:4]]),
    ],
)
def test_tags_are_regular_expressions(runs: Path, tags: Any, expected: list[str]) -> None:
    """One that is a tag as it stands, with its brackets, means that tag."""
    assert found(runs, runs / "*", tags) == {"one": expected, "two": expected}


def test_a_tag_that_nobody_has_is_told(runs: Path) -> None:
    """Once, after the last run, with the nearest; a tag that one of the runs has is not."""
    assert found(runs, runs / "*", "a.b") == {"one": ["a.b"]}
    with pytest.warns(keepfast.KeepfastWarning) as told:
        assert found(runs, runs / "*", ["Loss / Policy los", "Loss.*", "[", re.compile("Q+")])["two"] == TAGS[:2]
    (message,) = (str(one.message) for one in told)
    assert message.startswith(
        "no run has the tag `Loss / Policy los` (did you mean `Loss / Policy loss`?), the tag `[`"
    )
    assert message.endswith(", a tag that matches `Q+`")
    with pytest.raises(keepfast.InvalidValue, match=r"a tag is 5 \(int\); allowed"):
        found(runs, runs / "*", [5])
