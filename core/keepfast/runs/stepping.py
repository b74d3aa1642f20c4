"""Stepping: which timesteps of a run are complete, and what is due with each."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import final

from keepfast._system.arguments.guarding import tell
from keepfast._system.warnings import Afterwards, warn
from keepfast.errors import WriteFailed
from keepfast.runs.checkpointer import Checkpointer
from keepfast.runs.in_vain import warn_of_counting_again
from keepfast.runs.processes.clock import Clock
from keepfast.runs.processes.place import Standing
from keepfast.runs.processes.preemption import Preemption
from keepfast.runs.recorder import Recorder
from keepfast.runs.schedule import Passes, Turns, length_of, whole_timestep


@final
class Steps:
    """Counts the completed timesteps of a run, and has done what is due with them.

    Args:
        standing: whether this process is the one that writes.
        recorder: what writes; its schedule tells when that is due.
        checkpointer: what checkpoints; so does its schedule.
        begin: called at the first step of all, and at the first one after `stop`; raises where there may be none.
        write: called with the completed timesteps where a write is due.
        checkpoint: called with the completed timesteps where a checkpoint is due, also at the end.
        leave: releases everything, where the process was told to end.

    Attributes:
        completed: the completed timesteps.
        under_way: whether there was a step.
        passes: which training, or evaluation, of the run it is.
        length: the length of the training, or None where it is not known.
        preemption: what notices that the process is told to end.
    """

    def __init__(
        self,
        standing: Standing,
        recorder: Recorder,
        checkpointer: Checkpointer,
        *,
        begin: Callable[[], None],
        write: Callable[[int], None],
        checkpoint: Callable[[int], None],
        leave: Callable[[], None],
    ) -> None:
        self._standing, self._recorder, self._checkpointer = standing, recorder, checkpointer
        self._begin, self._calls, self._leave = begin, (write, checkpoint), leave
        self.preemption = Preemption()
        self._clock = Clock(checkpointer.seconds, self._be_asked)
        self._failures = checkpointer.failures
        self._went_back = False
        self._asked: int | None = None
        self.passes = Passes()
        self.completed, self.under_way = 0, False
        self.set_length(None)

    def set_length(self, timesteps: int | None) -> None:
        """Tell the length of the training; see `Experiment.set_timesteps`."""
        self.length = length_of(timesteps)
        self.passes.set_length(self.length)
        self._recorder.set_length(self.length)
        self._checkpointer.set_length(self.length, self.completed)
        self._wait_for(self.completed)

    def go_on(self, completed: int) -> None:
        """Go on behind a number of completed timesteps, counted over all passes."""
        self.passes.resume(completed)
        self._wait_for(completed)

    def _wait_for(self, completed: int) -> None:
        self.completed = completed
        self._turns = Turns([self._recorder.schedule, self._checkpointer.schedule], completed)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Find up to which timestep there is nothing to do but to count, so that each asks for one number alone."""
        end = self._turns.end if self.passes.end is None else min(self._turns.end, self.passes.end)
        self._busy_at = end if self.under_way else 0
        if self._clock.due:
            self._be_asked()

    def _be_asked(self) -> None:
        """Have the next step look at all there may be to do; any thread may call it."""
        self._busy_at = 0

    def stop(self) -> None:
        """Ask again, before another step, whether there may be one."""
        self.under_way = False
        self._clock.stop()
        self._look_ahead()

    def release_signals(self) -> None:
        """Let signals have their way again."""
        self.preemption.release()

    def step(self, timestep: int) -> None:
        """Complete a timestep; see `Experiment.step`."""
        try:
            if type(timestep) is not int:
                timestep = whole_timestep(timestep)
            completed = timestep + self.passes.after
            if self.completed <= completed < self._busy_at and not self._failures and self.preemption.received is None:
                self.completed = completed
            else:
                with Afterwards():
                    self._step_with_care(completed)
        except Exception as error:  # noqa: BLE001  (it is told)
            tell("Experiment.step", error)

    def _step_with_care(self, completed: int) -> None:
        """Complete a timestep in which there is more to do than to count it."""
        if completed < self.completed and self.under_way:
            completed = self._go_back(completed)
        self.completed = completed
        if not self.under_way:
            self._begin()
            self.preemption.watch()
            self.passes.start(completed)
            self.under_way = True
            self._clock.set()
        if self._failures:
            self._checkpointer.wait()
        self._take_turns(completed)
        if (received := self._signal) is not None:
            self._end_process(received)
        if completed == self.passes.end:
            self._complete()
        self._look_ahead()

    def _go_back(self, completed: int) -> int:
        """Return what is complete with a step that goes back, which may begin another pass."""
        on = self.passes.begin(completed, self.completed)
        if on:
            self.preemption.watch()
        elif not self._went_back:
            self._went_back = warn_of_counting_again(self.completed, completed)
        return completed + on

    def _take_turns(self, completed: int) -> None:
        """Write and checkpoint where that is due; a complete run has nothing left to write at its last checkpoint."""
        write, checkpoint = self._calls
        write_is_due, checkpoint_is_due = self._due(completed)
        rung = self._meet() if write_is_due or checkpoint_is_due else self._rung
        if write_is_due:
            write(completed)
        if completed == self.passes.end:
            self.write_rest(interrupted=False)
        if checkpoint_is_due or rung:
            self._clock.set()
            checkpoint(completed)

    @property
    def _rung(self) -> bool:
        """Say whether the clock rang, where this process need not ask others for that."""
        return self._clock.due and not self._checkpointer.together.is_on

    @property
    def _signal(self) -> int | None:
        """Return the signal that the run is to end at: this process's own, or what all processes know of."""
        return self._asked if self._checkpointer.together.is_on else self.preemption.received

    def _meet(self) -> bool:
        """Return whether the clock rang; where processes store together, that of the first, and note their signals."""
        together = self._checkpointer.together
        if not together.is_on:
            return self._clock.due
        try:
            said = together.every((self._clock.due, self.preemption.received))
        except WriteFailed:  # told with the checkpoint that is lost by it
            said = [(False, self.preemption.received)]
        self._asked = next((signal_number for _, signal_number in said if signal_number is not None), None)
        return said[0][0]

    def _due(self, completed: int) -> list[bool]:
        is_quiet = self._turns.start <= completed < self._turns.end
        return [False, False] if is_quiet else self._turns.take(completed)

    def _end_process(self, signal_number: int) -> None:
        self._standing.look_again()
        self._checkpointer.checkpoint(self.completed, with_memories=True)
        self._leave()
        raise KeyboardInterrupt if signal_number == signal.SIGINT else SystemExit(128 + signal_number)

    def _complete(self) -> None:
        """Save the state at the end, which need not be at an interval's, and let signals have their way again."""
        self.preemption.release()
        self.save_end()

    def save_end(self) -> None:
        """Checkpoint the last state, where no checkpoint holds it and there are to be any."""
        if self.under_way and self._checkpointer.latest != self.completed and self._checkpointer.is_on:
            self._calls[1](self.completed)

    def write_rest(self, *, interrupted: bool, at_close: bool = False) -> None:
        """Write what was tracked since the last write, unless the run broke off where a checkpoint holds it.

        A resume then completes that interval, as if nothing had happened. A run that was closed in order is over, as
        far as anybody can tell, and keeps no value to itself, but for what it took from a checkpoint and left as it is.
        Of several processes whose values are written each takes part, with something or not: at the end of the training
        if no write was due there, and once more at close, for what was tracked after it.
        """
        self._standing.look_again()
        if self._recorder.is_shared and self.under_way and not interrupted:
            if at_close or self._recorder.written_at != self.completed:
                self._recorder.write(self.completed)
            return
        candidate = self._checkpointer.best.candidate  # which is stored at the end, also where a run breaks off
        held = self._checkpointer.latest, None if candidate is None else candidate.timestep
        resumable = self.completed in held and self.completed != self.passes.end
        untouched = not self.under_way and self._recorder.is_as_resumed
        if self._recorder.pending and not (interrupted and resumable) and not untouched:
            self._recorder.write(self.completed, alone=self._recorder.is_shared)  # not judged: it is no whole interval
            if not (self.under_way or self.completed or interrupted):
                warn("`step` was never called, so what was tracked is written at timestep 0, and nothing was ever due")
