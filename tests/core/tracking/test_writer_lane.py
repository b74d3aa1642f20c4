"""The lane of a writer: a quick one gets everything; one that is slow, blocks or fails costs training nothing."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.tracking import writer_lane
from keepfast.tracking.writer_call import CALL_BYTES, ITEM_BYTES, OBJECT_BYTES
from keepfast.tracking.writer_lane import QUARANTINE_AFTER, QUARANTINE_SECONDS
from tests.core.tracking.writers import FailingWriter, GatedWriter, ListWriter, write

SCALAR_BYTES = CALL_BYTES + ITEM_BYTES
"""What a value takes that waits for a writer alone."""


class FailingToTheEnd(FailingWriter):
    """Notes that it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def quarantined(failing: FailingWriter, more: int = 0) -> keepfast.MultiWriter:
    """Return a writer that has failed until it is left alone, and `more` times was to be asked after that."""
    writer = keepfast.MultiWriter({"bad": failing})
    with pytest.warns(keepfast.KeepfastWarning, match="gone"):
        write(writer, QUARANTINE_AFTER)
        writer.flush()
    write(writer, more)
    assert failing.asked == QUARANTINE_AFTER
    assert writer.health["bad"].quarantined
    return writer


def test_repeated_failures_quarantine_a_writer(clock: SimpleNamespace) -> None:
    """After ten failures in a row a writer is left alone; after a while it is tried again, and may recover."""
    failing = FailingWriter(OSError("gone"))
    writer = quarantined(failing, more=5)
    assert writer.health["bad"].dropped == 5
    failing.error = None
    clock.now += QUARANTINE_SECONDS - 1
    writer.write_scalars({"a": 1.0}, 1, 1.0)
    assert (failing.asked, writer.health["bad"].dropped) == (QUARANTINE_AFTER, 6)
    clock.now += 2
    writer.write_scalars({"a": 1.0}, 1, 1.0)
    writer.flush()
    assert failing.asked == QUARANTINE_AFTER + 1
    assert not writer.health["bad"].quarantined
    with pytest.warns(keepfast.KeepfastWarning, match="10 of 13 calls failed; 6 calls were dropped"):
        writer.close()


def test_a_writer_that_recovered_is_not_left_alone_for_its_next_failure(clock: SimpleNamespace) -> None:
    """Only failures in a row count."""
    failing = FailingWriter(OSError("gone"))
    writer = quarantined(failing)
    clock.now += QUARANTINE_SECONDS + 1
    for error in (None, OSError("gone"), None):
        failing.error = error
        writer.write_scalars({"a": 1.0}, 1, 1.0)
        writer.flush()
    assert failing.asked == QUARANTINE_AFTER + 3
    assert writer.health["bad"].failed_in_row == 0
    with pytest.warns(keepfast.KeepfastWarning, match="11 of "):
        writer.close()


def test_a_writer_in_quarantine_is_closed_all_the_same(clock: SimpleNamespace) -> None:
    """Whatever it holds, a file or a connection, is released at the end of the run."""
    failing = FailingToTheEnd(OSError("gone"))
    writer = quarantined(failing)
    with pytest.warns(keepfast.KeepfastWarning, match="bad: 10 of"):
        writer.close()
    assert failing.closed


def test_what_waits_when_a_writer_is_left_alone_is_counted(gated: GatedWriter, clock: SimpleNamespace) -> None:
    """Values that were in its queue already are lost like those that come later; a flush is no value."""

    class GatedFailing(FailingWriter):
        def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
            gated.gate.wait()
            super().write_scalars(scalars, step, wall_time)

    failing = GatedFailing(OSError("gone"))
    writer = keepfast.MultiWriter({"bad": failing})
    write(writer, QUARANTINE_AFTER + 5)
    gated.gate.set()
    with pytest.warns(keepfast.KeepfastWarning, match="gone"):
        writer.flush()
    assert (failing.asked, writer.health["bad"].dropped) == (QUARANTINE_AFTER, 5)
    with pytest.warns(keepfast.KeepfastWarning, match="10 of 11 calls failed; 5 calls were dropped"):
        writer.close()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError()])
def test_a_writer_that_kills_its_thread_is_contained(error: BaseException) -> None:
    """Not even what ends a thread ends the writer's lane, or training."""
    healthy, failing = ListWriter(), FailingWriter(error)
    writer = keepfast.MultiWriter({"bad": failing, "good": healthy})
    with pytest.warns(keepfast.KeepfastWarning, match=type(error).__name__):
        write(writer, 3)
        writer.flush()
        writer.close()
    assert failing.asked == 3
    assert len(healthy.scalars) == 3


def test_a_blocked_writer_holds_up_nobody(gated: GatedWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and the other writers go on while one blocks; its queue is bounded, and what is dropped is counted.

    The writer is not let go on before the end, so that whatever waited for it would wait for ever.
    """
    monkeypatch.setattr(writer_lane, "QUEUE_BYTES", 1000 * SCALAR_BYTES)
    healthy = ListWriter()
    writer = keepfast.MultiWriter({"blocked": gated, "good": healthy}, patience=0.05)
    write(writer, 5000)
    with pytest.warns(keepfast.KeepfastWarning, match="writer `blocked` has not finished flush within 0.05 seconds"):
        writer.flush()
    assert [step for step, _ in healthy.scalars] == list(range(5000))
    assert writer.health["blocked"].dropped == 5000 - 1000 - 1
    with pytest.warns(keepfast.KeepfastWarning) as told:
        writer.close()
    messages = "\n".join(str(warning.message) for warning in told)
    assert "writer `blocked` did not finish within 0.05 seconds" in messages
    assert "calls were dropped" in messages


def test_a_blocked_writer_is_waited_for_once(gated: GatedWriter, waits: list[float]) -> None:
    """A writer that a flush waited for in vain is not waited for by the next one, until it is done."""
    writer = keepfast.MultiWriter({"blocked": gated}, patience=0.3)
    writer.add_scalar("a", 1.0, 1)
    with pytest.warns(keepfast.KeepfastWarning, match="has not finished flush"):
        writer.flush()
    assert len(waits) == 1
    writer.flush()
    assert len(waits) == 1
    gated.gate.set()
    writer.close()
    assert gated.steps == [1]


def test_closing_hardly_waits_for_a_writer_that_a_flush_gave_up(
    gated: GatedWriter, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was waited for in vain, with all patience, is not waited for as long again."""
    monkeypatch.setattr("keepfast.tracking.multi_writer.OVERDUE_SECONDS", 0.02)
    writer = keepfast.MultiWriter({"blocked": gated}, patience=1)
    writer.add_scalar("a", 1.0, 1)
    with pytest.warns(keepfast.KeepfastWarning, match="has not finished flush within 1 seconds"):
        writer.flush()
    waits.clear()
    with pytest.warns(keepfast.KeepfastWarning, match=r"`blocked` did not finish within 0\.02 seconds"):
        writer.close()
    assert waits == [0.02]


def test_waiting_arrays_are_bounded_in_bytes(gated: GatedWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that wait for a blocked writer take no more memory than the limit."""

    class Blocked(ListWriter):
        def write_histogram(self, *args: Any, **kwargs: Any) -> None:
            gated.gate.wait()
            super().write_histogram(*args, **kwargs)

    monkeypatch.setattr(writer_lane, "QUEUE_BYTES", 10 * (CALL_BYTES + len("h") + 1000))
    writer = keepfast.MultiWriter({"blocked": Blocked()}, patience=5)
    for step in range(20):
        writer.add_histogram("h", np.zeros(250, np.float32), step)
    dropped = writer.health["blocked"].dropped
    assert 8 <= dropped <= 10  # ten wait, and one or none is being written
    gated.gate.set()
    with pytest.warns(keepfast.KeepfastWarning, match="calls were dropped"):
        writer.close()


def test_a_burst_loses_nothing() -> None:
    """A quick writer gets every value, however fast they come: training waits for room in its queue."""
    quick = ListWriter()
    with keepfast.MultiWriter({"quick": quick}) as writer:
        write(writer, 30_000)
    assert len(quick.scalars) == 30_000


def test_a_burst_beyond_the_queue_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training waits for room in the queue of a quick writer, which has every value in the end."""
    monkeypatch.setattr(writer_lane, "QUEUE_BYTES", 10 * SCALAR_BYTES)
    quick = ListWriter()
    with keepfast.MultiWriter({"quick": quick}) as writer:
        write(writer, 10_000)
    assert [step for step, _ in quick.scalars] == list(range(10_000))


def test_a_burst_during_a_stall_loses_nothing(gated: GatedWriter) -> None:
    """A quick writer that is held up once, by a slow disk say, has every value of a burst in the meantime.

    It goes on only after the burst, so that a burst which waited for it would wait for ever.
    """
    with keepfast.MultiWriter({"stalling": gated}) as writer:
        writer.write_scalars({"a": 0.0}, 0, 1.0)
        time.sleep(writer_lane.SLOW_CALL + 0.1)
        for step in range(1, 5001):
            writer.write_scalars({"a": step / 2}, step, 1.0)
        gated.gate.set()
    assert gated.steps == [*range(5001)]


def test_a_value_larger_than_the_queue_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else waits there is room for it, so that a video is kept whatever its size."""
    monkeypatch.setattr(writer_lane, "QUEUE_BYTES", 1000)
    kept: list[int] = []

    class Counting(ListWriter):
        def write_histogram(self, tag: str, values: Any, *_: Any, **__: Any) -> None:
            kept.append(values.nbytes)

    with keepfast.MultiWriter({"counting": Counting()}) as writer:
        for _ in range(3):
            writer.add_histogram("h", np.zeros(10_000), 1)
    assert kept == [80_000] * 3


def test_a_slow_writer_has_its_whole_queue_again_once_it_is_worked_off(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing waits, so that a value is taken whatever its size and whatever was written before."""
    monkeypatch.setattr(writer_lane, "QUEUE_BYTES", SCALAR_BYTES)

    class Slow(ListWriter):
        def write_scalars(self, *_: Any, **__: Any) -> None:
            clock.now += 0.5

        def write_histogram(self, *_: Any, **__: Any) -> None:
            clock.now += 0.5

    with keepfast.MultiWriter({"slow": Slow()}) as writer:
        for step in range(3):
            writer.write_scalars({"a": 1.0}, step, 1.0)
            writer.flush()
            writer.add_histogram("h", np.zeros(10_000), step)
            writer.flush()
        assert writer.health["slow"].dropped == 0


def test_what_was_written_is_held_by_nobody() -> None:
    """An image's megabytes are free again once it is written, not only when the next call comes."""
    seen: list[weakref.ref[Any]] = []

    class Watching(ListWriter):
        def write_image(self, tag: str, image: Any, *_: Any, **__: Any) -> None:
            seen.append(weakref.ref(image))

    with keepfast.MultiWriter({"watching": Watching()}) as writer:
        writer.add_image("i", np.zeros((3, 4, 4)), 1)
        deadline = time.monotonic() + 20
        while not seen or seen[0]() is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_flush_that_takes_its_time_makes_no_writer_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a disk, as it should; the writer is quick all the same, and loses nothing of a burst."""
    monkeypatch.setattr(writer_lane, "QUEUE_BYTES", 5 * SCALAR_BYTES)

    class Thorough(ListWriter):
        def flush(self) -> None:
            time.sleep(0.1)

    thorough = Thorough()
    with keepfast.MultiWriter({"thorough": thorough}) as writer:
        for _ in range(3):
            writer.flush()
        write(writer, 200)
    assert [step for step, _ in thorough.scalars] == list(range(200))


def test_what_is_left_of_a_queue_is_told_as_lost(gated: GatedWriter) -> None:
    """A writer that does not end in time loses what waited for it, and the tally says how much that is."""
    writer = keepfast.MultiWriter({"blocked": gated}, patience=0.05)
    write(writer, 8)
    with pytest.warns(keepfast.KeepfastWarning) as told:
        writer.close()
    assert writer.health["blocked"].dropped == 7
    assert "blocked: 7 calls were dropped" in str(told[-1].message)


def test_waiting_values_take_no_more_memory_than_is_reckoned(
    gated: GatedWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is reckoned for values that wait for a blocked writer is what they take, or somewhat more."""
    reckoned = 3000 * (CALL_BYTES + 2 * ITEM_BYTES)
    monkeypatch.setattr(writer_lane, "QUEUE_BYTES", reckoned)
    writer = keepfast.MultiWriter({"blocked": gated})
    writer.add_scalar("a", 1.0, 1)
    gated.entered.wait()
    tracemalloc.start()
    try:
        for step in range(3000):
            writer.write_scalars({"a": step / 3, "b": step / 7}, step + 1000, 1.0)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.5 * reckoned < taken < reckoned
    assert writer.health["blocked"].dropped == 0
    writer.add_scalar("a", 1.0, 5000)
    assert writer.health["blocked"].dropped == 1  # they fill the queue to its last byte
    gated.gate.set()
    with pytest.warns(keepfast.KeepfastWarning, match="1 calls were dropped"):
        writer.close()


def test_figures_that_wait_are_bounded(gated: GatedWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of unknown size that wait for a blocked writer are reckoned as large."""
    monkeypatch.setattr("keepfast.tracking.multi_writer.FIGURE_SECONDS", 0.01)

    class Blocked(ListWriter):
        def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
            gated.gate.wait()

    writer = keepfast.MultiWriter({"blocked": Blocked()}, patience=5)
    with pytest.warns(keepfast.KeepfastWarning, match="has not finished write_figure"):
        for step in range(100):
            writer.write_figure("f", object(), step, 1.0, close=False)
    time.sleep(writer_lane.SLOW_CALL)
    writer.write_figure("f", object(), 100, 1.0, close=False)
    limit = writer_lane.QUEUE_BYTES // (OBJECT_BYTES + CALL_BYTES)
    assert writer.health["blocked"].dropped in (100 - limit, 101 - limit)
    gated.gate.set()
    with pytest.warns(keepfast.KeepfastWarning, match="calls were dropped"):
        writer.close()


def test_where_no_thread_may_start_calls_are_performed_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the very end of the interpreter threads are refused; writing and closing work all the same."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    kept, failing = ListWriter(), FailingWriter(OSError("gone"))
    writer = keepfast.MultiWriter({"kept": kept, "failing": failing})
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.warns(keepfast.KeepfastWarning, match="gone"):
        write(writer, 3)
        writer.settle(1)
        writer.flush()
        writer.close()
    assert [step for step, _ in kept.scalars] == [0, 1, 2]
    assert kept.calls == ["flush", "flush", "close"]
    assert failing.asked == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_writes_nothing_twice(tmp_path: Path) -> None:
    """What waits in the queue at a fork is written by the parent alone, and the child can write of its own."""
    script = f"""
        import os, time, keepfast

        class FileWriter(keepfast.Writer):
            def write_scalars(self, scalars, step, wall_time):
                time.sleep(0.002)
                with open({str(tmp_path / "lines")!r}, "a") as file:
                    file.write(f"{{step}}\\n")

        writer = keepfast.MultiWriter({{"file": FileWriter()}})
        for step in range(100):
            writer.add_scalar("a", 1.0, step)
        child = os.fork()
        if child == 0:
            writer.add_scalar("a", 1.0, 1000)
            writer.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        writer.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
    steps = sorted(map(int, (tmp_path / "lines").read_text().split()))
    assert steps == [*range(100), 1000]


def test_a_normal_exit_without_close_works_the_queue_off(tmp_path: Path) -> None:
    """What waits in a queue when the program ends is written first."""
    script = f"""
        import time, keepfast

        class FileWriter(keepfast.Writer):
            def write_scalars(self, scalars, step, wall_time):
                time.sleep(0.002)
                with open({str(tmp_path / "lines")!r}, "a") as file:
                    file.write(f"{{step}}\\n")

        writer = keepfast.MultiWriter({{"file": FileWriter()}})
        for step in range(200):
            writer.add_scalar("a", 1.0, step)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
    assert (tmp_path / "lines").read_text().split() == [str(step) for step in range(200)]


class SleepingWriter(keepfast.Writer):
    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        time.sleep(1)


def train_a_step(writer: keepfast.Writer, step: int) -> float:
    """Return the seconds that one step of work and its write take."""
    begin = time.perf_counter()
    loss = sum(number * 0.5 for number in range(40_000))
    writer.write_scalars({"Loss / Policy loss": loss}, step, time.time())
    return time.perf_counter() - begin


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.parametrize(
    "ill",
    [lambda: FailingWriter(OSError("always")), SleepingWriter, lambda: FailingWriter(SystemExit())],
    ids=["raises at every call", "sleeps a second per call", "kills its thread"],
)
def test_an_ill_writer_costs_training_less_than_five_percent(ill: Callable[[], keepfast.Writer]) -> None:
    """Beside a writer that raises, sleeps or kills its thread, training takes as long, and the healthy writer has all.

    Steps beside it and steps without it take turns, and their lower quartiles are compared. The machine has other
    work too, so the best of a few rounds counts: a cost that is there is there in each of them.
    """
    good = ListWriter()
    alone = keepfast.MultiWriter({"good": ListWriter()})
    beside = keepfast.MultiWriter({"ill": ill(), "good": good}, patience=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", keepfast.KeepfastWarning)
        ratios = [compare_rounds(alone, beside) for _ in range(4)]
        beside.close()
    alone.close()
    assert min(ratios) < 1.05
    assert [step for step, _ in good.scalars] == [*range(150)] * 4


def compare_rounds(alone: keepfast.Writer, beside: keepfast.Writer) -> float:
    """Return how many times as long the steps beside the second writer take."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(300):
        is_ill = turn % 4 in (1, 2)
        times[is_ill].append(train_a_step(beside if is_ill else alone, len(times[is_ill])))
    usual, with_ill = (statistics.quantiles(times[is_ill], n=4)[0] for is_ill in (False, True))
    return with_ill / usual
