"""The contract of writers."""

from __future__ import annotations

import abc
import math
import os
import signal
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfast import codec
from keepfast.interfaces.writer import Writer, WriterContext
from keepfast.tracking.multi_writer import MultiWriter

_TAGS = (
    "Reward / Total reward (mean)",
    "Loss / Policy loss",
    "plain",
    "with.dots/and/slashes",
    "Größe / 報酬 🎯",
    'quotes " and \\ and , and ;',
)
_START = 1_700_000_000.0

Kept = Mapping[str, list[tuple[int, float]]]


class WriterContract(abc.ABC):
    """Proves a writer; inherit it, name the class ``Test...``, and give the fixture `factory`.

    With `kept` overridden, what the writer keeps is proved too: every tag as typed, in order, complete after a flush
    even if the process is killed, and without what a resumed run voids.

    Example::

        class TestPrintWriter(keepfast.testing.WriterContract):
            @pytest.fixture
            def factory(self):
                return PrintWriter
    """

    @pytest.fixture
    @abc.abstractmethod
    def factory(self) -> Callable[[WriterContext], Writer]:
        """Return what makes the writer of a context."""

    precision: float = 1e-6
    """The relative precision to which values are kept; 0 for exactly."""

    budget: int = 1000
    """How many calls of functions, Python's own included, writing 20 values may take."""

    def kept(self, directory: Path) -> Kept | None:
        """Return the steps and values that lie in a run's directory, by tag; None where they cannot be read back."""
        return None

    @pytest.fixture
    def context(self, tmp_path: Path) -> WriterContext:
        """Return the context of a new run."""
        directory = tmp_path / "24-11-24_12-00-00-000000_PPO"
        directory.mkdir()
        return WriterContext(directory, directory.name, {"experiment": {"write_interval": 10}, "lr": 1e-3})

    def assert_kept(self, context: WriterContext, expected: Kept) -> None:
        """Assert what was kept, where that can be read back."""
        actual = self.kept(context.directory)
        if actual is None:
            return
        assert sorted(actual) == sorted(expected)
        for tag, points in expected.items():
            assert [step for step, _ in actual[tag]] == [step for step, _ in points], tag
            values, wanted = ([value for _, value in series] for series in (actual[tag], points))
            assert values == pytest.approx(wanted, rel=self.precision, abs=0, nan_ok=True), tag

    def test_every_value_is_kept_under_its_tag_and_step(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """Every value is kept under its own tag, unchanged, at its step, in the order written."""
        with factory(context) as writer:
            for step in (10, 20, 30):
                writer.write_scalars({tag: step + place / 8 for place, tag in enumerate(_TAGS)}, step, _START + step)
        expected = {tag: [(step, step + place / 8) for step in (10, 20, 30)] for place, tag in enumerate(_TAGS)}
        self.assert_kept(context, expected)

    def test_values_that_are_not_finite_are_kept(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """NaN and both infinities are kept as such, and so are the largest and smallest numbers of 32 bits."""
        values = [math.nan, math.inf, -math.inf, 3.4e38, -1e-37, 0.0]
        with factory(context) as writer:
            for step, value in enumerate(values):
                writer.write_scalars({"value": value}, step, _START)
        self.assert_kept(context, {"value": list(enumerate(values))})

    def test_values_have_the_precision_that_is_promised(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """A value that no few digits tell is kept as precisely as `precision` says: 0 for every bit of it."""
        values = [1 / 3, -math.pi * 1e9, 0.1 + 0.2, 16_777_217.0, 1e-30 / 7]
        with factory(context) as writer:
            for step, value in enumerate(values):
                writer.write_scalars({"value": value}, step, _START)
        self.assert_kept(context, {"value": list(enumerate(values))})

    def test_tags_may_come_and_go(self, factory: Callable[[WriterContext], Writer], context: WriterContext) -> None:
        """A tag may appear late, pause and return."""
        with factory(context) as writer:
            writer.write_scalars({"a": 1.0}, 1, _START)
            writer.write_scalars({"b": 2.0}, 2, _START)
            writer.write_scalars({"c": 3.0, "a": 4.0}, 3, _START)
            writer.write_scalars({}, 4, _START)
        self.assert_kept(context, {"a": [(1, 1.0), (3, 4.0)], "b": [(2, 2.0)], "c": [(3, 3.0)]})

    def test_a_tag_that_no_text_can_hold_costs_no_other(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """A tag with a lone surrogate, as a broken file name gives, takes no value of its step with it."""
        with MultiWriter([factory(context)]) as writer:
            writer.write_scalars({"good": 1.0, "bad \ud800": 2.0, "better": 3.0}, 1, _START)
        self.assert_kept(context, {"good": [(1, 1.0)], "bad \\ud800": [(1, 2.0)], "better": [(1, 3.0)]})

    def test_add_scalar_writes_one_value(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """`add_scalar` takes what SummaryWriter's takes: numbers, and arrays that hold one."""
        with factory(context) as writer:
            writer.add_scalar("Resource / CPU usage", 12, global_step=1000)
            writer.add_scalar("Resource / CPU usage", np.array([12.5]), 2000, walltime=_START)
        self.assert_kept(context, {"Resource / CPU usage": [(1000, 12.0), (2000, 12.5)]})

    def test_other_kinds_are_kept_or_declined(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """Histograms, images, texts, videos and hyperparameters are kept, or declined with a warning, told once."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with factory(context) as writer:
                for step in (1, 2):
                    _write_other_kinds(writer, step)
        messages = [str(warning.message) for warning in told]
        assert len(messages) == len(set(messages))
        assert all("does not keep" in message for message in messages)

    def test_closing_twice_is_harmless(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """Flushing and closing may be called again after the first time."""
        writer = factory(context)
        writer.write_scalars({"a": 1.0}, 1, _START)
        writer.flush()
        writer.flush()
        writer.close()
        writer.close()
        self.assert_kept(context, {"a": [(1, 1.0)]})

    def test_its_state_travels_with_checkpoints(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """What `state_dict` returns can be stored without pickling, and a new writer takes it back."""
        with factory(context) as writer:
            writer.write_scalars({"a": 1.0}, 1, _START)
            stored = codec.dumps(writer.state_dict())
        with factory(_resumed(context, 1)) as writer:
            writer.load_state_dict(codec.loads(stored))
            writer.write_scalars({"a": 2.0}, 2, _START)
        self.assert_kept(context, {"a": [(1, 1.0), (2, 2.0)]})

    def test_a_resumed_run_overlaps_nothing(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """A run that goes on from a timestep voids what lies beyond it, and keeps what lies before."""
        with factory(context) as writer:
            for step in (10, 20, 30, 40):
                writer.write_scalars({"a": float(step)}, step, _START + step)
        with factory(_resumed(context, 20)) as writer:
            for step in (30, 40):
                writer.write_scalars({"a": -float(step)}, step, _START + 100 + step)
        self.assert_kept(context, {"a": [(10, 10.0), (20, 20.0), (30, -30.0), (40, -40.0)]})

    def test_a_resumed_run_may_begin_with_it(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """A run that goes on may name a writer that it did not have before, so that there is nothing of it yet."""
        with factory(_resumed(context, 20)) as writer:
            writer.write_scalars({"a": 30.0}, 30, _START)
        self.assert_kept(context, {"a": [(30, 30.0)]})

    def test_it_may_be_called_from_another_thread_than_made_it(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """A run makes its writers on one thread, and calls and closes each on another."""
        writer = factory(context)
        with ThreadPoolExecutor(max_workers=1) as other:
            for step in (1, 2):
                other.submit(writer.write_scalars, {"a": float(step)}, step, _START).result()
            other.submit(writer.flush).result()
            other.submit(writer.state_dict).result()
            other.submit(writer.close).result()
        self.assert_kept(context, {"a": [(1, 1.0), (2, 2.0)]})

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    def test_what_was_flushed_survives_a_kill(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """What was written before a flush is there after SIGKILL."""

        def write_and_die() -> None:
            writer = factory(context)
            for step in range(100):
                writer.write_scalars({"a": step / 4, "b": -step / 4}, step, _START)
            writer.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        assert _in_child(write_and_die) == -signal.SIGKILL
        expected = {tag: [(step, sign * step / 4) for step in range(100)] for tag, sign in (("a", 1), ("b", -1))}
        self.assert_kept(context, expected)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    def test_a_forked_child_disturbs_nothing(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """A process forked off in mid-run, as a data loader is, may end without a trace in what is kept."""
        writer = factory(context)
        writer.write_scalars({"a": 1.0}, 1, _START)
        assert _in_child(lambda: None) == 0
        writer.write_scalars({"a": 2.0}, 2, _START)
        writer.close()
        self.assert_kept(context, {"a": [(1, 1.0), (2, 2.0)]})

    def test_writing_stays_within_its_budget(
        self, factory: Callable[[WriterContext], Writer], context: WriterContext
    ) -> None:
        """Writing 20 values of one step takes no more calls than `budget`, in the median of a hundred writes.

        Calls are counted, and not seconds, so that a busy machine does not decide.
        """
        scalars = {f"Loss / Loss number {number}": number / 3 for number in range(20)}
        with factory(context) as writer:
            spent = [_calls(partial(writer.write_scalars, scalars, step, _START)) for step in range(100)]
        assert statistics.median(spent) <= self.budget


def _calls(work: Callable[[], Any]) -> int:
    """Do work and return how many functions it called, in this thread."""
    events: list[str] = []
    before = sys.getprofile()
    sys.setprofile(lambda _frame, event, _argument: events.append(event))
    try:
        work()
    finally:
        sys.setprofile(before)
    return events.count("call") + events.count("c_call")


def _write_other_kinds(writer: Writer, step: int) -> None:
    rng = np.random.default_rng(step)
    writer.add_histogram("histogram", rng.normal(size=(20, 3)), step)
    writer.add_image("image", rng.integers(0, 256, (3, 8, 8), np.uint8), step)
    writer.add_text("text", "# Größe\nof the *thing*", step)
    writer.add_video("video", rng.random((2, 3, 3, 8, 8), np.float32), step, fps=8)
    writer.add_hparams({"lr": 1e-3, "name": "PPO", "flag": True}, {"score": 1.0}, global_step=step)
    writer.flush()


def _resumed(context: WriterContext, step: int) -> WriterContext:
    return WriterContext(context.directory, context.experiment_name, context.config, step)


def _in_child(work: Callable[[], Any]) -> int:
    """Do work in a forked process and return its exit code, negative for a signal."""
    with warnings.catch_warnings():
        # Python and JAX warn of threads that a fork leaves behind; the child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
