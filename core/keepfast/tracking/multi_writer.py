"""MultiWriter: many writers behind one, each kept apart from the others and from training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.checks import function
from keepfast._system.arguments.guarding import guarded_calls
from keepfast._system.disk.optional import tell_lacking
from keepfast._system.finishing import finish
from keepfast._system.lifetimes import in_child
from keepfast._system.tally import Count, Tally
from keepfast._system.warnings import Afterwards, warn
from keepfast.errors import InvalidValue, UsageError, WriterFailed, as_given
from keepfast.interfaces.summary.checks import whole
from keepfast.interfaces.writer import Writer
from keepfast.plugins.backends import prepare
from keepfast.tracking.unstarted import Unstarted
from keepfast.tracking.writer_call import Call, WriterHealth, describe, frozen, numbers, own, storable
from keepfast.tracking.writer_lane import DirectLane, Lane, QueueLane

_PATIENCE = 60.0
"""How many seconds a flush, and closing, wait for a writer; Weights & Biases uploads the rest of a run at its close."""

OVERDUE_SECONDS = 1.0
"""How long closing waits for a writer that a flush has waited for in vain already."""

FIGURE_SECONDS = 5.0
"""How long training waits until a writer has drawn a figure, which may change afterwards."""

GRAPH_SECONDS = 60.0
"""How long training waits until a writer has traced a module."""

STATE_SECONDS = 1.0
"""How long a checkpoint waits for a writer's state; beyond that the one before is taken."""

Opener = Callable[[], Mapping[str, Writer | Unstarted]]
"""Makes the writers, by name; with ``on_error="raise"`` it raises where one cannot start."""


@guarded_calls()
@final
class MultiWriter(Writer):
    """Hands everything to several writers, and keeps what goes wrong with one from the others and from training.

    With ``on_error="warn"`` each writer is called on a thread of its own, in order, from a bounded queue. One that
    raises is reported once, counted, and goes on being asked; after ten failures in a row it is left alone for a
    minute. One that is slow or blocks loses what no longer fits its queue; training waits for quick writers only.
    What went wrong is told at close, and by `health` at any time. A value is where its writer keeps it after `flush`.

    Args:
        writers: the writers by name, or a sequence, where they are named after their classes.
        on_error: ``"warn"``, or ``"raise"`` to call every writer in line and raise what goes wrong as `WriterFailed`.
        patience: how many seconds a flush, and closing, wait for a writer that is slow or blocks.

    Raises:
        InvalidValue: if `on_error` is neither.

    Example::

        with keepfast.MultiWriter([JsonlWriter(context), PrintWriter(context)]) as writer:
            writer.add_scalar("Loss / Policy loss", 0.5, global_step=10)
    """

    def __init__(
        self,
        writers: Mapping[str, Writer] | Sequence[Writer],
        on_error: Literal["warn", "raise"] = "warn",
        *,
        patience: float = _PATIENCE,
    ) -> None:
        if on_error not in ("warn", "raise"):
            raise InvalidValue(f'`on_error` is {as_given(on_error)}; allowed: "warn", "raise"')
        prepare()
        self._on_error = on_error
        self._healths: dict[str, WriterHealth] = {}
        named = writers if isinstance(writers, Mapping) else _named(writers)
        self._lanes: list[Lane] = [self._lane(name, writer) for name, writer in named.items()]
        self._opener: Opener = dict
        self._is_open = True
        self._patience = patience
        self._failed, self._not_started = Tally(), Tally()
        self._states: dict[str, Any] = {}
        self._overdue: dict[str, Call] = {}
        self._unsettled: dict[str, Call] = {}
        self._told: list[Callable[[Mapping[str, float], int], object]] = []
        self._closed = False
        self._refusal = "on writers that were closed; make others"
        self._renew_lock()
        in_child(self._renew_lock)

    def _renew_lock(self) -> None:
        self._opening = threading.RLock()

    @classmethod
    def opened_by(cls, opener: Opener, on_error: Literal["warn", "raise"] = "warn") -> Self:
        """Return one whose writers are made by `open`, or else by the first call that needs them."""
        made = cls({}, on_error)
        made._opener, made._is_open = opener, False
        return made

    def _lane(self, name: str, writer: Writer | Unstarted) -> Lane:
        health = self._healths.setdefault(name, WriterHealth())
        if self._on_error == "warn":
            return QueueLane(name, writer, health)
        if isinstance(writer, Unstarted):
            raise WriterFailed(f"writer `{name}` cannot start: {writer.error}") from writer.error
        return DirectLane(name, writer, health)

    def open(self) -> None:
        """Make the writers now, where that is still to be done.

        Raises:
            WriterFailed: with ``on_error="raise"``, if a writer cannot start.
        """
        if self._is_open:
            return
        with self._opening:
            if self._is_open or self._closed:
                return
            lanes = [self._lane(name, writer) for name, writer in self._opener().items()]
            try:
                _give_back(self._states, lanes)
            finally:
                self._lanes, self._is_open = lanes, True
        self._tell_unstarted()

    def reopen(self, states: Mapping[str, Any], *, vain: bool = False) -> None:
        """Close the writers and have them made anew when they are needed, which this one stands for as before.

        Args:
            states: the state that each has then, by name.
            vain: whether they began in vain, so that nothing of them is to stay; see `Writer.undo`.

        Raises:
            WriterFailed: with ``on_error="raise"``, if a writer failed as it was closed.
        """
        with self._opening:
            lanes, self._lanes, self._is_open = self._lanes, [], self._closed
            self._states = dict(states)
            finish(*(partial(self._close_lane, lane, "undo" if vain else "close") for lane in reversed(lanes)))
            self._overdue, self._unsettled = {}, {}
            self._healths = {name: _after(health) for name, health in self._healths.items()}

    @property
    def writers(self) -> dict[str, Writer]:
        """Return the writers by name, made now if they were not; those that could not start are missing."""
        self.open()
        return {lane.name: lane.writer for lane in self._lanes if lane.writer is not None}

    @property
    def health(self) -> dict[str, WriterHealth]:
        """Return how each writer fares, by name."""
        return dict(self._healths)

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Hand the values of one step to every writer, as Python's own numbers.

        Raises:
            InvalidValue: if a value is no number, or the step no whole one.
        """
        values = numbers(scalars)
        for told in self._told:
            told(values, step)
        self._write("write_scalars", values, step=step, wall_time=wall_time)

    def when_written(self, callback: Callable[[Mapping[str, float], int], object]) -> None:
        """Have a function called with the values of each write, by tag, and their step; at once, by whoever writes."""
        self._told.append(function("callback", callback))

    def write_histogram(
        self, tag: str, values: NDArray[Any], step: int, wall_time: float, *, bins: str | Sequence[float] = "tensorflow"
    ) -> None:
        """Hand an array to every writer, as it is now."""
        self._write("write_histogram", tag, frozen(values), step=step, wall_time=wall_time, bins=bins)

    def write_image(
        self, tag: str, image: NDArray[Any], step: int, wall_time: float, *, dataformats: str = "CHW"
    ) -> None:
        """Hand an image to every writer, as it is now."""
        self._write("write_image", tag, frozen(image), step=step, wall_time=wall_time, dataformats=dataformats)

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Hand a text to every writer."""
        self._write("write_text", tag, text, step=step, wall_time=wall_time)

    def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
        """Have every writer draw a figure; waits for them, because figures change and cannot be copied."""
        self._write("write_figure", tag, figure, step=step, wall_time=wall_time, timeout=FIGURE_SECONDS, close=False)
        if close:
            _close_figures(figure)

    def write_video(self, tag: str, video: NDArray[Any], step: int, wall_time: float, *, fps: float = 4) -> None:
        """Hand videos to every writer, as they are now."""
        self._write("write_video", tag, frozen(video), step=step, wall_time=wall_time, fps=fps)

    def write_hparams(
        self,
        hparams: Mapping[str, Any],
        metrics: Mapping[str, float],
        step: int,
        wall_time: float,
        *,
        run_name: str | None = None,
    ) -> None:
        """Hand hyperparameters and metrics to every writer."""
        self._write("write_hparams", dict(hparams), numbers(metrics), step=step, wall_time=wall_time, run_name=run_name)

    def write_summary(self, kind: str, tag: str, content: Mapping[str, Any], step: int, wall_time: float) -> None:
        """Hand what few writers keep to every writer, as it is now; a graph is waited for, since its module changes."""
        own = {name: frozen(part) if isinstance(part, np.ndarray) else part for name, part in content.items()}
        timeout = GRAPH_SECONDS if kind == "graph" else None
        self._write("write_summary", kind, tag, own, step=step, wall_time=wall_time, timeout=timeout)

    def write_artifact(self, path: Path, step: int, wall_time: float, *, name: str, kind: str) -> None:
        """Tell every writer of a file."""
        self._write("write_artifact", path, step=step, wall_time=wall_time, name=name, kind=kind)

    def keeps_files(self, name: str) -> bool:
        """Say whether there is a writer of a name that is at work and keeps files."""
        return self._keeper(name) is not None

    def _keeper(self, name: str) -> Lane | None:
        lanes = () if self._closed else self._lanes
        found = (lane for lane in lanes if lane.name == name)
        return next((lane for lane in found if lane.writer and _overrides(lane.writer, "write_artifact")), None)

    def offer(self, to: str, path: Path, step: int, *, name: str, kind: str, after: Callable[[], object]) -> None:
        """Hand one writer a file, from whatever thread, where it keeps files; see `Writer.write_artifact`.

        It raises and warns of nothing: what goes wrong is told, or raised, by the next call that reaches the writer.

        Args:
            to: the writer's name.
            path: the file.
            step: the completed timesteps.
            name: what it is called.
            kind: what kind of file it is.
            after: called once the writer is done with the file, or will never get it.
        """
        lane = self._keeper(to)
        if lane is None:
            after()
            return
        lane.submit_behind(Call("write_artifact", (path, step, time.time()), {"name": name, "kind": kind}, after=after))

    def flush(self) -> None:
        """Return when every writer has flushed, or has not within the patience, which is reported.

        Raises:
            WriterFailed: with ``on_error="raise"``, if a writer failed.
        """
        if not self._closed:
            self._fan_out([(lane, Call("flush", awaited=True)) for lane in self._lanes], self._patience)

    def settle(self, patience: float) -> None:
        """Return when every healthy writer has performed and flushed what it was given so far.

        For a checkpoint, whose values should be where the writers keep them before it is. It raises and warns of
        nothing, and any thread may call it. A writer that is known to fail, to hang or to be too far behind is not
        waited for.

        Args:
            patience: the seconds to wait in all. With ``on_error="raise"`` a flush takes the time it takes, and what
                goes wrong in it is raised by the next call that reaches the writer.
        """
        deadline = time.monotonic() + patience
        calls = [(lane, lane.start_flush(patience)) for lane in self._lanes if not self._is_ill(lane)]
        for lane, call in calls:
            if call is not None and not call.wait(max(0.0, deadline - time.monotonic())):
                self._unsettled[lane.name] = call

    def close(self) -> None:
        """Close every writer, the last first, and tell what went wrong over the run.

        Raises:
            WriterFailed: with ``on_error="raise"``, if a writer failed.
        """
        if self._closed:
            return
        self._closed = True
        failure = None
        with Afterwards():
            for lane in reversed(self._lanes):  # a writer may build on those before it
                try:
                    self._close_lane(lane)
                except WriterFailed as error:
                    failure = failure or error
            self._failed.tell_sum(lambda _: self._losses())
            tell_lacking()
        if failure is not None:
            raise failure

    def refuse(self, reason: str) -> None:
        """Refuse every call from now on, and close nothing: what there is to close is somebody else's.

        Args:
            reason: the end of an error that begins with the call's name and "was called".
        """
        self._closed, self._refusal = True, reason

    def mute(self) -> None:
        """Close every writer, and take what comes from now on without keeping it."""
        for lane in reversed(self._lanes):
            self._close_lane(lane)
        self._lanes, self._is_open = [], True

    def _close_lane(self, lane: Lane, how: Literal["close", "undo"] = "close") -> None:
        patience = min(self._patience, OVERDUE_SECONDS) if self._is_overdue(lane) else self._patience
        finished = lane.ask(Call(how, awaited=True), patience)
        lane.end()
        if not finished:
            warn(f"writer `{lane.name}` did not finish within {patience:g} seconds; what it had left is lost")

    def _losses(self) -> str:
        ill = [f"\n  {name}: {health}" for name, health in self._healths.items() if health.failed or health.dropped]
        return f"not every writer kept everything:{''.join(ill)}" if ill else ""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every writer, by name; one that gives none which a file can hold fails, as in a write.

        Raises:
            WriterFailed: with ``on_error="raise"``, if a writer failed.
        """
        for lane in self._lanes:
            if lane.writer is None:
                continue
            if _overrides(lane.writer, "state_dict") and not (isinstance(lane, QueueLane) and lane.slow):
                call = Call("state_dict", awaited=True, check=storable)
                if lane.ask(call, STATE_SECONDS) and call.result is not None:
                    self._states[lane.name] = call.result
        return dict(self._states)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give every writer its state back, by name."""
        self._states = dict(state)
        _give_back(state, self._lanes)

    def _write(
        self, method: str, *content: Any, step: int, wall_time: float, timeout: float | None = None, **options: Any
    ) -> None:
        if self._closed:
            raise UsageError(f"{method} was called {self._refusal}")
        args = (*content, whole(step), float(wall_time))
        self.open()
        awaited = timeout is not None
        self._fan_out([(lane, Call(method, own(args), options, awaited=awaited)) for lane in self._lanes], timeout)

    def _fan_out(self, calls: list[tuple[Lane, Call]], timeout: float | None) -> None:
        """Hand each lane its call, and wait for all of them where there is a time to wait."""
        failure = None
        with Afterwards():
            for lane, call in calls:
                try:
                    self._hand(lane, call, in_queue=timeout is None)
                except WriterFailed as error:
                    failure = failure or error
            if timeout is not None:
                self._await(calls, timeout)
            self._report()
        if failure is not None:
            raise failure

    def _hand(self, lane: Lane, call: Call, *, in_queue: bool) -> None:
        writer = lane.writer
        if writer is not None and call.method.startswith("write_") and not _overrides(writer, call.method):
            call.perform(writer)  # tells, here and once, that it does not keep that kind
            call.finish()
        elif in_queue or self._is_overdue(lane):
            lane.submit(call)
        else:
            lane.ask(call, 0)

    def _await(self, calls: list[tuple[Lane, Call]], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for lane, call in calls:
            if self._is_overdue(lane) or call.wait(max(0.0, deadline - time.monotonic())):
                continue
            self._overdue[lane.name] = call
            warn(f"writer `{lane.name}` has not finished {call.method} within {timeout:g} seconds; going on without it")

    def _is_overdue(self, lane: Lane) -> bool:
        """Say whether a writer was waited for in vain and is still at it: it is not waited for again."""
        return _is_pending(self._overdue.get(lane.name))

    def _is_ill(self, lane: Lane) -> bool:
        return self._closed or self._is_overdue(lane) or _is_pending(self._unsettled.get(lane.name))

    def _report(self) -> None:
        for lane in self._lanes:
            error = lane.health.last_error if lane.health.failed else None
            if isinstance(lane, QueueLane) and error is not None and lane.name not in self._failed:
                self._failed.count(lane.name, describe(error))
        self._failed.tell(_first_failure)

    def _tell_unstarted(self) -> None:
        for lane in self._lanes:
            if (unstarted := lane.unstarted) is not None and lane.name not in self._not_started:
                self._not_started.count(lane.name, str(unstarted.error))
        self._not_started.tell(_cannot_start)


def _give_back(states: Mapping[str, Any], lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        if lane.name in states:
            lane.submit(Call("load_state_dict", (states[lane.name],)))


def _after(health: WriterHealth) -> WriterHealth:
    """Return how a writer that is made anew has fared: what it lost stays lost, and it is trusted again."""
    return replace(health, failed_in_row=0, quarantined=False)


def _cannot_start(name: str, count: Count) -> str:
    return (
        f"writer `{name}` cannot start: {count.first}; the run goes on without it, tries again, and tells at close "
        "what was lost"
    )


def _first_failure(name: str, count: Count) -> str:
    return (
        f"writer `{name}` failed: {count.first}; training and the other writers go on, and the tally is told at close"
    )


def _named(writers: Sequence[Writer]) -> dict[str, Writer]:
    named: dict[str, Writer] = {}
    for position, writer in enumerate(writers):
        name = type(writer).__name__
        named[name if name not in named else f"{name} {position}"] = writer
    return named


def _is_pending(call: Call | None) -> bool:
    return call is not None and not call.wait(0)


def _overrides(writer: Writer, method: str) -> bool:
    return getattr(type(writer), method) is not getattr(Writer, method)


def _close_figures(figure: Any) -> None:
    from matplotlib import pyplot as plt

    for one in figure if isinstance(figure, list | tuple) else [figure]:
        plt.close(one)
