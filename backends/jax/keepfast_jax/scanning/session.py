"""The host's side of the loops of one experiment: counts them, visits the experiment, and goes on after a resume."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import jax
import numpy as np

from keepfast import Experiment, Interval, LoadReport
from keepfast_jax.scanning.carry import Kept, Position, Shape
from keepfast_jax.scanning.pieces import State
from keepfast_jax.scanning.progress import Progress

_EPISODES = ("Reward / Instantaneous reward", "Reward / Total reward", "Episode / Total timesteps")


@final
@dataclass(frozen=True)
class Visit:
    """One loop as it runs.

    Attributes:
        number: which of the run's loops it is.
        length: how many steps it was asked for.
        first: the one of them that it begins with.
        before: how many steps were done before all of them, where it was asked for the rest of a loop.
        origin: the completed timesteps before its first step of all.
        restored: the position that it goes on from, where that is a checkpoint's.
    """

    number: int
    length: int
    first: int
    before: int
    origin: int
    restored: Position | None = None

    def completed(self, step: int) -> int:
        """Return the completed timesteps once so many of the steps are done."""
        return self.origin + self.before + step

    def position(self, step: int, axes: tuple[int, ...] = ()) -> Position:
        """Return where the loop stands then."""
        return Position(self.number, self.before + step, self.before + self.length, axes)


@final
class Session:
    """The loops of one experiment.

    Attributes:
        experiment: the experiment.
        loop: the experiment as a compiled loop sees it.
        kept: what its checkpoints hold of the loop that runs.
        pending: where the loop stood that a checkpoint was taken of, until it goes on; None where there is none.
        is_over: whether the run was ended from outside, and saved.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.loop = experiment, experiment.loop
        self.kept = Kept()
        self.pending: Position | None = None
        self.is_over = False
        self._progress = Progress()
        self._begun = self._traced = 0
        self._resumed: LoadReport | None = None
        self._asked_for_rest = False
        if experiment.resumed is None and experiment.completed == 0:
            experiment.resume()
            self._look(by_hand=False)

    @classmethod
    def of(cls, experiment: Experiment) -> Session:
        """Return the experiment's own, made at its first loop, after a resume where nobody did one."""
        session = _sessions.get(experiment)
        if session is None:
            session = _sessions[experiment] = cls(experiment)
        session.loop = experiment.loop  # which a closed one has not
        session.look_for_resume()
        session.loop.watch()
        session.loop.wait_with(jax.effects_barrier)
        return session

    def look_for_resume(self) -> None:
        """Take note of a resume since the last loop."""
        self._look(by_hand=True)

    def _look(self, *, by_hand: bool) -> None:
        if self.experiment.resumed is self._resumed:
            return
        self._resumed, self._asked_for_rest = self.experiment.resumed, by_hand
        self.pending = Position.of(self.loop.late) or self.kept.position
        if self.pending is not None and by_hand:
            self._begun = self._traced = self.pending.number

    def restore(self, empty: Callable[[Position], State]) -> None:
        """Restore what the checkpoint holds of a loop, where nobody did yet.

        Args:
            empty: returns a state for it to be put in.

        Raises:
            LoadMismatch: if it does not fit; lists every difference.
        """
        if self.pending is not None and self.loop.late:
            self.kept.put(self.experiment, empty(self.pending), self.pending)

    def restore_while_traced(self, empty: Callable[[Position], State]) -> None:
        """Restore it already where the loop is surely the one, so that what does not fit is told while it is traced."""
        if self.pending is not None and self._traced == self.pending.number:
            self.restore(empty)
        self._traced += 1

    def begin(self, length: int, empty: Callable[[Position], State]) -> Visit:
        """Begin a loop, or go on with one.

        Args:
            length: how many steps it was asked for.
            empty: returns a state for a checkpoint to be put in.
        """
        number, pending, completed = self._begun, self.pending, self.experiment.completed
        self._begun += 1
        if self.is_over or (pending is not None and number < pending.number):  # this one was over before
            return Visit(number, length, length, 0, completed - length)
        if pending is None:
            return Visit(number, length, 0, 0, completed)
        self.restore(empty)
        self.pending = None
        if self._asked_for_rest and length == pending.length - pending.step:
            return Visit(number, length, 0, pending.step, completed - pending.step, pending)
        return Visit(number, length, min(pending.step, length), 0, completed - pending.step, pending)

    def may_store(self, visit: Visit, step: int, tags: Sequence[str], *, episodes: bool) -> bool:
        """Say whether the experiment may store something at a step, so that it must have the state of then."""
        experiment, completed = self.experiment, visit.completed(step)
        best = self.loop.best_metric
        judged = best is not None and (best in tags or (episodes and best.startswith(_EPISODES)))
        return (
            step >= visit.length
            or completed == self.loop.end
            or _due(completed, experiment.checkpoint_interval)
            or (judged and _due(completed, experiment.write_interval))
            or self.loop.is_ending
            or self.loop.stores_by_clock
        )

    def running(self, axes: tuple[int, ...], shape: Shape) -> list[np.ndarray[Any, Any]]:
        """Return the episodes that are under way, on the host, as the loop before left them.

        Args:
            axes: of the seeds.
            shape: what they are for one seed.
        """
        running = None if self.loop.take_reset() else self.kept.taken().running
        if running is not None and tuple(self.kept.scan["axes"]) == axes:
            found = shape.loose(running)
            if all(array.shape == (*axes, *leaf.shape) for array, leaf in zip(found, shape.leaves, strict=True)):
                return found
        return shape.loose(shape.empty(axes))

    def track(self, intervals: Iterable[Sequence[Interval]]) -> None:
        """Track what was added up, by device and seed."""
        for seeds in intervals:
            self.loop.track(*seeds)

    def complete(self, visit: Visit, step: int) -> None:
        """Complete a step: write, checkpoint, and tell the progress.

        Raises:
            SystemExit: after saving, if the process was told to end.
            KeyboardInterrupt: after saving, if Ctrl-C was pressed.
        """
        self._progress.tell(visit.before + step, visit.before + visit.length)
        self.loop.complete(visit.completed(step))

    def intervals(self) -> tuple[int, ...]:
        """Return the intervals at which the host is visited, in timesteps."""
        given = self.experiment.write_interval, self.experiment.checkpoint_interval
        return tuple(interval for interval in given if interval > 0)

    def end(self, visit: Visit) -> int:
        """Return the step at which the training has its length, where that is within the loop, or the loop's end."""
        end = self.loop.end
        rest = 0 if end is None else end - visit.completed(0)
        return rest if 0 < rest < visit.length else visit.length


_sessions: weakref.WeakKeyDictionary[Experiment, Session] = weakref.WeakKeyDictionary()


def _due(completed: int, interval: int) -> bool:
    return interval > 0 and completed % interval == 0


def next_visit(position: Any, last: Any, intervals: Sequence[int], offsets: Sequence[Any], least: Any) -> Any:
    """Return the step of the next visit to the host.

    Args:
        position: the step now.
        last: the latest step that it may be.
        intervals: those of the experiment.
        offsets: how far into each interval the loop began.
        least: returns the lesser of two numbers, here or traced.
    """
    following = last
    for interval, offset in zip(intervals, offsets, strict=True):
        following = least(following, ((offset + position) // interval + 1) * interval - offset)
    return following
