"""What stays and what goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from keepfast.checkpoints.index import IndexedCheckpoint


@final
@dataclass(frozen=True)
class Retention:
    """Chooses the checkpoints to remove once newer ones are durable.

    Attributes:
        keep_last: how many periodic checkpoints stay; all if None.
        keep_every: a periodic checkpoint at a multiple of it stays forever; none does for that reason if None.
        keep_best: how many of the best stay.
        mode: whether more or less of the metric is better.
        memories: the names of modules that not every checkpoint holds; the latest that holds one stays.
    """

    keep_last: int | None
    keep_every: int | None
    keep_best: int
    mode: Literal["max", "min"]
    memories: frozenset[str] = frozenset()

    def removable(self, checkpoints: Sequence[IndexedCheckpoint]) -> list[IndexedCheckpoint]:
        """Return what may go: never the latest, never the best, never what Keepfast did not write.

        Superseded checkpoints go before all others, whatever their timestep.
        """
        own = [checkpoint for checkpoint in checkpoints if checkpoint.own]
        periodic = sorted(
            (checkpoint for checkpoint in own if not checkpoint.best and checkpoint.timestep is not None),
            key=lambda checkpoint: (not checkpoint.superseded, checkpoint.timestep or 0),
        )
        old = [] if self.keep_last is None else periodic[: -self.keep_last]
        ranked = sorted((checkpoint for checkpoint in own if checkpoint.best), key=self._rank)
        needed = [found for found in periodic if not self.memories.isdisjoint(found.modules)][-1:]
        gone = [found for found in old if not self._milestone(found) and found not in needed]
        return gone + ranked[max(self.keep_best, 1) :]

    def _milestone(self, checkpoint: IndexedCheckpoint) -> bool:
        return self.keep_every is not None and (checkpoint.timestep or 0) % self.keep_every == 0

    def _rank(self, checkpoint: IndexedCheckpoint) -> float:
        score = checkpoint.score
        if score is None or math.isnan(score):
            return math.inf
        return -score if self.mode == "max" else score
