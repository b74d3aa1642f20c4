"""The best candidate: judged at each write, stored at each checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from keepfast.errors import InvalidValue
from keepfast.tree import Tree


@final
@dataclass(frozen=True)
class Candidate:
    """A copy of all modules at the timestep where they scored best so far."""

    score: float
    timestep: int
    state: Mapping[str, Tree]
    resume: Mapping[str, Any]


@final
class BestJudge:
    """Remembers the best score and keeps the candidate that is not stored yet.

    Args:
        metric: the tag that is judged.
        mode: whether more or less of it is better.
        min_episodes: how many episodes must have ended in the interval for it to count.
        keep: how many of the best are kept.
    """

    def __init__(self, metric: str, mode: Literal["max", "min"], min_episodes: int, keep: int = 1) -> None:
        self.metric, self.mode, self.min_episodes, self.keep = metric, mode, min_episodes, keep
        self._scores: list[float] = []
        self.candidate: Candidate | None = None

    @property
    def score(self) -> float | None:
        """Return the best score so far, or None."""
        return next(iter(self._scores), None)

    def better(self, score: float) -> bool:
        """Say whether a score is among the best so far; a NaN or an infinity never is."""
        if not math.isfinite(score):
            return False
        return len(self._scores) < self.keep or self._beats(score, self._scores[-1])

    def _beats(self, score: float, other: float) -> bool:
        return score > other if self.mode == "max" else score < other

    def _take(self, scores: Iterable[float]) -> None:
        self._scores = sorted(scores, reverse=self.mode == "max")[: self.keep]

    def judge(
        self,
        statistics: Mapping[str, float],
        episodes: int,
        timestep: int,
        capture: Callable[[], tuple[Mapping[str, Tree], Mapping[str, Any]]],
        agree: Callable[[float | None], float | None] = lambda score: score,
    ) -> None:
        """Judge one interval, and keep a copy of the modules if it is the best so far.

        Args:
            statistics: what was written, by tag.
            episodes: how many episodes ended in the interval.
            timestep: the completed timesteps.
            capture: returns an independent copy of the modules, and of what a resume needs beside them.
            agree: is given the score where it is the best so far, or None, and returns the one that counts, which
                another process may have found.
        """
        if (score := agree(self._found(statistics, episodes))) is None:
            return
        waiting = self.candidate
        state, resume = capture()
        others = list(self._scores)
        if waiting is not None:
            others.remove(waiting.score)
        self._take([*others, score])
        self.candidate = Candidate(score, timestep, state, resume)

    def _found(self, statistics: Mapping[str, float], episodes: int) -> float | None:
        """Return the score of an interval where it is the best so far, else None."""
        score = statistics.get(self.metric)
        if score is None or episodes < self.min_episodes or not self.better(score):
            return None
        # One candidate is kept between checkpoints, the best.
        return score if self.candidate is None or self._beats(score, self.candidate.score) else None

    def take(self) -> Candidate | None:
        """Return the candidate that waits to be stored, so that another can wait while it is."""
        candidate, self.candidate = self.candidate, None
        return candidate

    def put_back(self, candidate: Candidate) -> None:
        """Take back a candidate that could not be stored, unless a better one waits by now."""
        if self.candidate is None or self._beats(candidate.score, self.candidate.score):
            self.candidate = candidate

    def state(self) -> dict[str, Any]:
        """Return the best score with what it is a score of, as a tree."""
        return {"metric": self.metric, "mode": self.mode, "score": self.score}

    def resume(self, state: Mapping[str, Any] | None, stored: Iterable[float]) -> None:
        """Go on from another time, and drop any candidate of the time before.

        Args:
            state: what `state` returned then; of no account where it speaks of another metric.
            stored: the scores of this run's best checkpoints on disk.
        """
        known = {score for score in stored if math.isfinite(score)}
        if state is not None and (state["metric"], state["mode"]) == (self.metric, self.mode):
            known |= {state["score"]} - {None}
        self._take(known)
        self.candidate = None

    def remember(self) -> Callable[[], None]:
        """Return what undoes a `resume`."""
        scores, candidate = self._scores, self.candidate

        def back() -> None:
            self._scores, self.candidate = scores, candidate

        return back


def check_best(state: Mapping[str, Any]) -> None:
    """Check what `BestJudge.state` returned.

    Raises:
        InvalidValue: if it is no such thing; names the key.
    """
    for key in ("metric", "mode"):
        if not isinstance(state.get(key), str):
            raise InvalidValue(f"`best.{key}` is {state.get(key)!r:.60}; allowed: a text")
    score = state.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise InvalidValue(f"`best.score` is {score!r:.60}; allowed: a number, or None")


@final
class Improvement:
    """Remembers when a metric was last better than ever before, whatever is stored of it.

    Args:
        metric: the tag.
        mode: whether more or less of it is better.
        min_episodes: how many episodes must have ended in the interval for it to count.
    """

    def __init__(self, metric: str, mode: Literal["max", "min"], min_episodes: int) -> None:
        self._metric, self._mode, self._min_episodes = metric, mode, min_episodes
        self._score: float | None = None
        self._at = 0

    def judge(self, statistics: Mapping[str, float], episodes: int, timestep: int) -> None:
        """Judge one interval; a NaN or an infinity never counts."""
        score = statistics.get(self._metric)
        if score is None or episodes < self._min_episodes or not math.isfinite(score):
            return
        better = self._score is None or (score > self._score if self._mode == "max" else score < self._score)
        if better:
            self._score, self._at = score, timestep

    def within(self, timesteps: int, completed: int) -> bool:
        """Say whether that was in the last timesteps, or the run is not that long yet."""
        return completed - self._at < timesteps

    def state(self) -> dict[str, Any]:
        """Return what a resume needs, as a tree."""
        return {"metric": self._metric, "mode": self._mode, "score": self._score, "at": self._at}

    def resume(self, state: Mapping[str, Any] | None, timestep: int) -> None:
        """Go on from another time; where nothing is known of the metric, as if it had improved then."""
        told = state or {}
        score, at = told.get("score"), told.get("at")
        known = (told.get("metric"), told.get("mode")) == (self._metric, self._mode)
        if known and isinstance(score, float | None) and type(at) is int and at <= timestep:
            self._score, self._at = score, at
        else:
            self._score, self._at = None, timestep
