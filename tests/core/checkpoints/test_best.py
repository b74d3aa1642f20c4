"""The best candidate: judged at each write, kept until it is stored."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast.checkpoints.best import BestJudge

TAG = "Reward / Total reward (mean)"


def judge(best: BestJudge, score: float, timestep: int = 0, episodes: int = 1) -> None:
    best.judge({TAG: score}, episodes, timestep, lambda: ({"policy": score}, {}))


@given(scores=st.lists(st.floats(), max_size=20), mode=st.sampled_from(["max", "min"]))
def test_the_best_is_the_best_finite_score(scores: list[float], mode: Literal["max", "min"]) -> None:
    """NaN and infinities are never the best; of equals the first stays."""
    best = BestJudge(TAG, mode, 0)
    for timestep, score in enumerate(scores):
        judge(best, score, timestep)
    finite = [score for score in scores if math.isfinite(score)]
    expected = (max if mode == "max" else min)(finite, default=None)
    assert best.score == expected
    candidate = best.candidate
    assert (candidate is None) is (expected is None)
    if candidate is not None:
        assert (candidate.score, candidate.timestep) == (expected, scores.index(candidate.score))
        assert candidate.state == {"policy": expected}


def test_a_candidate_that_could_not_be_stored_comes_back() -> None:
    """A candidate is handed out once; put back, it waits again, unless a better one has come."""
    best = BestJudge(TAG, "max", 0)
    judge(best, 1.0)
    first = best.take()
    assert first is not None
    assert best.take() is None
    judge(best, 0.5)
    assert best.take() is None
    best.put_back(first)
    assert best.take() is first
    judge(best, 1.5)
    best.put_back(first)
    second = best.take()
    assert second is not None
    assert second.score == 1.5


def test_modules_are_copied_only_for_a_better_score() -> None:
    """The copy costs time; an interval that is not better does not pay it."""
    best = BestJudge(TAG, "max", 0)
    copies: list[float] = []

    def capture(score: float) -> Any:
        copies.append(score)
        return {}, {}

    for score in (1.0, 0.5, math.nan, 2.0):
        best.judge({TAG: score}, 1, 0, lambda score=score: capture(score))
    best.judge({"another tag": 9.0}, 1, 0, lambda: capture(9.0))
    assert copies == [1.0, 2.0]


def test_too_few_episodes_are_not_judged() -> None:
    """With `best_min_episodes` a lucky single episode does not become the best."""
    best = BestJudge(TAG, "max", 3)
    judge(best, 100.0, episodes=2)
    assert best.score is None
    judge(best, 5.0, episodes=3)
    assert best.score == 5.0


@pytest.mark.parametrize(("mode", "expected"), [("max", 3.0), ("min", 1.0)])
def test_a_resume_takes_over_the_best_known_score(mode: Literal["max", "min"], expected: float) -> None:
    """Of what the directory and the checkpoint know; a candidate of the time before is dropped."""
    before = BestJudge(TAG, mode, 0)
    judge(before, 1.0)
    best = BestJudge(TAG, mode, 0)
    judge(best, 2.0)
    best.resume(before.state(), [3.0])
    assert best.score == expected
    assert best.candidate is None
    best.resume(None, [math.nan])
    assert best.score is None


def test_the_score_of_another_metric_is_of_no_account() -> None:
    """A run that judges something else than the checkpoint did starts without a best."""
    before = BestJudge(TAG, "max", 0)
    judge(before, 1000.0)
    for best in (BestJudge("Loss / Policy loss", "max", 0), BestJudge(TAG, "min", 0)):
        best.resume(before.state(), [])
        assert best.score is None


def test_the_best_few_are_kept_though_none_beats_the_best() -> None:
    """With `keep` 3 the second and third best become candidates too, a worse one does not."""
    best = BestJudge(TAG, "max", 0, keep=3)
    stored = []
    for score in (9.0, 7.0, 8.0, 6.0, 7.5, 7.2):
        judge(best, score)
        if (candidate := best.take()) is not None:
            stored.append(candidate.score)
    assert stored == [9.0, 7.0, 8.0, 7.5]
    assert best.score == 9.0


def test_between_checkpoints_the_better_candidate_waits() -> None:
    """One candidate is kept, so a better one takes its place and a worse one does not."""
    best = BestJudge(TAG, "max", 0, keep=2)
    for score in (5.0, 4.0, 6.0):
        judge(best, score)
    assert best.candidate is not None
    assert best.candidate.score == 6.0
    assert best.take() is not None
    judge(best, 5.5)
    assert best.take() is not None


def test_a_worse_one_does_not_take_the_place_of_the_one_that_waits() -> None:
    """Though it is among the best few, it is not the best since the last checkpoint."""
    best = BestJudge(TAG, "max", 0, keep=2)
    for score in (5.0, 4.0):
        judge(best, score)
    assert best.candidate is not None
    assert best.candidate.score == 5.0


def test_a_score_that_was_never_stored_is_none_of_the_best_few() -> None:
    """Of two candidates between checkpoints one is stored, so that the next best still has a place."""
    best = BestJudge(TAG, "max", 0, keep=2)
    for score in (5.0, 6.0):
        judge(best, score)
    assert best.take() is not None
    judge(best, 4.0)
    candidate = best.take()
    assert candidate is not None
    assert candidate.score == 4.0
