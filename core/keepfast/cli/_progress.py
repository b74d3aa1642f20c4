"""How far a training is: a bar on a terminal, a plain line now and then in a log; and Ctrl-C between timesteps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

REFRESH = 0.1
"""Seconds between two updates of the bar."""

LINES = 10
"""How many lines a log gets over a whole training."""


@final
class TrainingProgress:
    """Shows the progress of a training that calls it after each timestep.

    From the first call to the last, Ctrl-C is held back until the running timestep is complete and then raised here as
    a `KeyboardInterrupt`, so that it never tears an update or a write; a second Ctrl-C acts at once.

    Args:
        timesteps: the length of the training.
        console: where to show it.
    """

    def __init__(self, timesteps: int, console: Console) -> None:
        self._timesteps, self._console = timesteps, console
        self._interrupt = _Interrupt()
        self._bar = _bar(console) if console.is_terminal else None
        self._started = False
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, completed: int, score: float | None) -> None:
        """Show a completed timestep.

        Args:
            completed: the number of completed timesteps.
            score: the best score so far, if there is one.

        Raises:
            KeyboardInterrupt: if Ctrl-C was pressed since the last call.
        """
        if not self._started:
            self._start()
        if self._bar is not None:
            self._update(self._bar, completed, score)
        elif completed * LINES // self._timesteps > (completed - 1) * LINES // self._timesteps:
            self._console.print(f"{completed}/{self._timesteps} timesteps, {_described(score)}")
        if completed >= self._timesteps:
            self._end()
        self._interrupt.check()

    def _start(self) -> None:
        self._started = True
        self._interrupt.watch()
        if self._bar is not None:
            self._bar.add_task("training", total=self._timesteps, score="")
            self._bar.start()

    def _update(self, bar: Progress, completed: int, score: float | None) -> None:
        now = time.monotonic()
        if now - self._shown >= REFRESH or completed >= self._timesteps:
            self._shown = now
            bar.update(bar.task_ids[0], completed=completed, score=_described(score))

    def _end(self) -> None:
        self._interrupt.release()
        if self._bar is not None:
            self._bar.stop()


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[score]}"))
    return Progress(*columns, console=console)


def _described(score: float | None) -> str:
    return "no score yet" if score is None else f"best score {score:.1f}"


@final
class _Interrupt:
    """Remembers Ctrl-C until it is asked for; only in the main thread, where Python handles signals."""

    def __init__(self) -> None:
        self._received = False
        self._previous: Any = None

    def watch(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._remember)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self._received = True
        self.release()

    def release(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def check(self) -> None:
        if self._received:
            self._received = False
            self.release()
            raise KeyboardInterrupt
