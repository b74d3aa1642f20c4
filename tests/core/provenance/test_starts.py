"""How starts are kept: each with what changed alone, read whole again, and how each ended."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast.provenance import starts
from keepfast.provenance.ending import ending, killed
from keepfast.provenance.starts import PROVENANCE, bounded, for_strangers, shortened, whole

TOLD = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2) | st.lists(st.integers(0, 1), max_size=2))


@given(st.lists(TOLD, max_size=5))
def test_what_is_kept_of_starts_is_read_whole(told: list[dict[str, Any]]) -> None:
    """Whatever each has in common with the one before, gains or loses."""
    kept: list[dict[str, Any]] = []
    for each in told:
        before = whole(kept)[-1][PROVENANCE] if kept else {}
        kept.append({PROVENANCE: shortened(each, before)})
    assert [start[PROVENANCE] for start in whole(kept)] == told


def test_what_did_not_change_is_kept_once() -> None:
    """A start has only what the one before has not."""
    assert shortened({"packages": {"numpy": "2"}, "host": "b"}, {"packages": {"numpy": "2"}, "host": "a"}) == {
        "host": "b"
    }


def test_the_differences_of_many_starts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest ones are left out."""
    monkeypatch.setattr(starts, "_MOST_BYTES", 250)
    kept = bounded([{"provenance": {"git": {"diff": "x" * 100, "commit": str(place)}}} for place in range(3)])
    assert [len(start["provenance"]["git"]["diff"]) for start in kept] == [0, 0, 100]
    assert [start["provenance"]["git"]["commit"] for start in kept] == ["0", "1", "2"]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "number", "interrupted", "expected"),
    [
        (None, None, False, ("finished", None)),
        (None, None, True, ("interrupted", None)),
        (None, signal.SIGTERM, True, ("interrupted", "SIGTERM")),
        (ValueError("wrong"), None, True, ("failed", "ValueError: wrong")),
        (ValueError(), None, True, ("failed", "ValueError")),
        (KeyboardInterrupt(), None, True, ("interrupted", "KeyboardInterrupt")),
        (Unspeakable(), None, True, ("failed", "Unspeakable: (its text raises ValueError)")),
        (ValueError("password=hunter2"), None, True, ("failed", "ValueError: password=***")),
    ],
)
def test_how_a_start_ended(error: Any, number: int | None, interrupted: bool, expected: tuple[str, str | None]) -> None:
    """By its error or signal, without secrets."""
    told = ending(error, number, interrupted=interrupted)
    assert (told["how"], told["error"]) == expected


def test_a_start_that_left_without_a_word_was_killed() -> None:
    """When it last wrote; in this very process, nobody closed it."""
    assert killed(0.0) == {"how": "killed", "error": None, "time": "1970-01-01T00:00:00+00:00"}
    assert killed(None, in_own_process=True)["how"] == "interrupted"


def test_strangers_are_told_nothing_of_machine_and_code() -> None:
    """What is pushed to a hub has the settings, when each start was and how it ended, and no more."""
    start = {"time": "t", "config": {"lr": 1}, "ended": {"how": "failed", "error": "/home/me: no"}}
    own = {
        "provenance": {"git": {"diff": "mine"}},
        "process": {"pid": 1},
        "warnings": {"/home": 1},
        "resumed": {"run": "/"},
    }
    told = for_strangers({"agent": "PPO", "starts": [{**start, **own}, 3]})
    assert told == {"agent": "PPO", "starts": [{**start, "ended": {"how": "failed"}}]}
