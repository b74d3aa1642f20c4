"""The best candidate: judged at each write, stored at each checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from holdfast.tree import Tree


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
    """

    def __init__(self, metric: str, mode: Literal["max", "min"], min_episodes: int) -> None:
        self.metric, self.mode, self.min_episodes = metric, mode, min_episodes
        self.score: float | None = None
        self.candidate: Candidate | None = None

    def better(self, score: float) -> bool:
        """Say whether a score beats the best so far; a NaN or an infinity never does."""
        if not math.isfinite(score):
            return False
        if self.score is None:
            return True
        return score > self.score if self.mode == "max" else score < self.score

    def judge(
        self,
        statistics: Mapping[str, float],
        episodes: int,
        timestep: int,
        capture: Callable[[], tuple[Mapping[str, Tree], Mapping[str, Any]]],
    ) -> None:
        """Judge one interval, and keep a copy of the modules if it is the best so far.

        Args:
            statistics: what was written, by tag.
            episodes: how many episodes ended in the interval.
            timestep: the completed timesteps.
            capture: returns an independent copy of the modules, and of what a resume needs beside them.
        """
        score = statistics.get(self.metric)
        if score is None or episodes < self.min_episodes or not self.better(score):
            return
        state, resume = capture()
        self.score = score
        self.candidate = Candidate(score, timestep, state, resume)

    def stored(self, candidate: Candidate) -> None:
        """Forget a candidate that is durable now, unless a better one has taken its place."""
        if self.candidate is candidate:
            self.candidate = None

    def state(self) -> dict[str, Any]:
        """Return the score with what it is a score of, as a tree."""
        return {"metric": self.metric, "mode": self.mode, "score": self.score}

    def resume(self, state: Mapping[str, Any] | None, stored: float | None) -> None:
        """Go on from another time, and drop any candidate of the time before.

        Args:
            state: what `state` returned then; of no account where it speaks of another metric.
            stored: the best score of this run that is on disk, or None.
        """
        scores = [stored]
        if state is not None and (state["metric"], state["mode"]) == (self.metric, self.mode):
            scores.append(state["score"])
        known = [score for score in scores if score is not None and math.isfinite(score)]
        self.score = (max if self.mode == "max" else min)(known, default=None)
        self.candidate = None
