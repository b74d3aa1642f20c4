"""Seeds that are trained side by side: each is tracked by itself, and written as one, or as runs of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from keepfast.errors import UsageError
from keepfast.tracking.interval import Interval
from keepfast.tracking.multi_writer import MultiWriter
from keepfast.tracking.tracker import Tracker

SEEDS = "seeds"
"""The directory, within that of the run, that holds one for each seed where each is a run of its own."""

STANDARD_ERROR, MINIMUM, MAXIMUM = " [standard error]", " [minimum]", " [maximum]"
"""What ends the tags of what is told of all seeds beside their mean, which has the tag itself."""


@final
class Seeds:
    """Tracks several seeds, and sums up what is written of them.

    Args:
        trackers: one for each seed.
        writers: one for each seed; none where they are written as one alone.
    """

    def __init__(self, trackers: Sequence[Tracker], writers: Sequence[MultiWriter]) -> None:
        self._trackers, self.writers = trackers, writers

    def track(self, intervals: Sequence[Interval]) -> None:
        """Track an interval of each seed.

        Raises:
            UsageError: if there are not as many as before.
        """
        if len(intervals) != len(self._trackers):
            raise UsageError(
                f"{len(intervals)} seed(s) were tracked, and {len(self._trackers)} before in this run; "
                "make an experiment for each number of seeds"
            )
        for tracker, interval in zip(self._trackers, intervals, strict=True):
            tracker.merge(interval)

    def write(self, step: int, wall_time: float) -> dict[str, float]:
        """Write the statistics of each seed, where they have writers, and return those over all seeds."""
        found = [tracker.statistics() for tracker in self._trackers]
        for writer, statistics in zip(self.writers, found, strict=False):
            if statistics:
                writer.write_scalars(statistics, step, wall_time)
        return over_seeds(found)

    @property
    def pending(self) -> bool:
        """Say whether anything was tracked since the last write."""
        return any(tracker.pending for tracker in self._trackers)

    @property
    def episodes(self) -> int:
        """Return how many episodes ended in the interval written last."""
        return sum(tracker.episodes.ended_in_last_interval for tracker in self._trackers)

    def state_dict(self) -> dict[str, Any]:
        """Return the interval so far and what each writer needs, as a tree."""
        return {
            "trackers": [tracker.state_dict() for tracker in self._trackers],
            "writers": [writer.state_dict() for writer in self.writers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the interval so far from what `state_dict` returned."""
        for tracker, stored in zip(self._trackers, state["trackers"], strict=True):
            tracker.load_state_dict(stored)


def over_seeds(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each tag over the seeds that have it, with its standard error, minimum and maximum."""
    tags = dict.fromkeys(tag for statistics in found for tag in statistics)
    summary: dict[str, float] = {}
    for tag in tags:
        values = np.array([statistics[tag] for statistics in found if tag in statistics])
        error = float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else 0.0
        summary[tag] = float(values.mean())
        summary[tag + STANDARD_ERROR] = error
        summary[tag + MINIMUM], summary[tag + MAXIMUM] = float(values.min()), float(values.max())
    return summary
