"""An experiment as a loop sees it that runs compiled, and comes to the host but once an interval."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import final

from keepfast.runs.checkpointer import Checkpointer
from keepfast.runs.processes.preemption import end_main_thread
from keepfast.runs.recorder import Recorder
from keepfast.runs.resuming import Resuming
from keepfast.runs.stepping import Steps
from keepfast.tracking.interval import Interval
from keepfast.tree import Tree


@final
class CompiledLoop:
    """What a backend that compiles whole loops asks of an experiment.

    Args:
        recorder: what tracks and writes.
        resuming: returns what has the run go on from a checkpoint.
        steps: what counts timesteps, and has done what is due with them.
        checkpointer: what stores.

    Attributes:
        is_broken_off: whether a signal ended the run within compiled code.
    """

    def __init__(
        self,
        recorder: Recorder,
        resuming: Callable[[], Resuming],
        steps: Steps,
        checkpointer: Checkpointer,
    ) -> None:
        self._recorder, self._resuming, self._steps, self._checkpointer = recorder, resuming, steps, checkpointer
        self._preemption = steps.preemption
        self._barriers: list[Callable[[], object]] = []
        self._calls = threading.local()
        self.is_broken_off = False

    def track(self, *seeds: Interval) -> None:
        """Track what was added up on a device since the last time.

        Args:
            *seeds: one interval, or one for each of several seeds that are trained side by side.
        """
        self._recorder.track_interval(*seeds)

    def watch(self) -> None:
        """Notice signals from now on, also while the main thread is inside compiled code."""
        self._preemption.watch()
        self._preemption.watch_from_afar()

    @property
    def end(self) -> int | None:
        """Return the completed timesteps at which the training has its length, or None where that is not known."""
        return self._steps.passes.end

    def complete(self, completed: int) -> None:
        """Complete timesteps, counted over all trainings of the run; raises what `Experiment.step` does."""
        self._steps.step(completed - self._steps.passes.after)

    @property
    def best_metric(self) -> str | None:
        """Return the tag that the best is judged by, or None where no best is kept."""
        return self._checkpointer.judged_metric

    @property
    def stored_at(self) -> int | None:
        """Return the completed timesteps at the checkpoint that was promised last, or None."""
        return self._checkpointer.latest

    @property
    def stores_by_clock(self) -> bool:
        """Say whether any step may be the one that is stored, because checkpoints go by the clock too."""
        return self._checkpointer.seconds is not None

    @property
    def is_ending(self) -> bool:
        """Say whether the run is to end at the next step, and be saved."""
        return self._preemption.asked is not None

    @property
    def late(self) -> Mapping[str, Tree]:
        """Return the modules, by name, that a resume found and that are to be registered yet."""
        return self._resuming().late

    def take_reset(self) -> bool:
        """Say whether environments were reset in mid-run since this was last asked, so that no episode goes on."""
        was_reset, self._recorder.was_reset = self._recorder.was_reset, False
        return was_reset

    def store_late(self, *names: str) -> None:
        """Have checkpoints tell that modules of these names are registered by the loop itself, after a resume."""
        self._resuming().late_names |= set(names)

    def wait_with(self, barrier: Callable[[], object]) -> None:
        """Have `Experiment.wait` and `close` call what returns once compiled loops have run to their end."""
        if barrier not in self._barriers:
            self._barriers.append(barrier)

    def wait(self) -> None:
        """Return when compiled loops have run to their end; at once where one of them asks."""
        if not getattr(self._calls, "inside", False):
            for barrier in self._barriers:
                barrier()

    @contextlib.contextmanager
    def without_end(self) -> Iterator[None]:
        """Keep the run from being ended within the block, for which the state that is to be saved is not there."""
        self._preemption.is_held = True
        try:
            yield
        finally:
            self._preemption.is_held = False

    @contextlib.contextmanager
    def call(self, *, ends: bool = True) -> Iterator[Callable[[], bool]]:
        """Do what a compiled loop calls the host for.

        Where the run is to end, and was saved, the block is left as if nothing were, and the main thread is interrupted
        once it is out of the compiled code.

        Args:
            ends: whether the run may end within, for it needs the state that is to be saved.

        Yields:
            What says, behind the block, whether the loop is to end.
        """
        stopped: list[BaseException] = []
        self._preemption.look_from_afar()
        self._calls.inside, self._preemption.is_held = True, not ends
        try:
            yield lambda: bool(stopped)
        except (KeyboardInterrupt, SystemExit) as error:
            stopped.append(error)
            self.is_broken_off = True
            end_main_thread(error)
        finally:
            self._calls.inside = self._preemption.is_held = False
