"""MultiWriter: what goes wrong with one writer reaches neither the others nor training."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.tracking import writer_lane
from tests.core.tracking.writers import FailingWriter, GatedWriter, ListWriter, write

LONGER_THAN_A_TEST = 3600.0
"""Seconds to wait that a test does not have: it would be ended."""


def test_every_writer_gets_everything_in_order() -> None:
    """Each call reaches every writer, in the order made."""
    first, second = ListWriter(), ListWriter()
    with keepfast.MultiWriter({"first": first, "second": second}) as writer:
        write(writer, 5000)
        writer.add_histogram("h", np.arange(3), 1, bins=[0.0, 1.0])
    expected = [(step, {"a": step / 2}) for step in range(5000)]
    assert first.scalars == expected
    assert second.scalars == expected
    assert [(tag, bins) for tag, _, bins in first.arrays] == [("h", [0.0, 1.0])]


def test_no_writers_are_fine() -> None:
    """A MultiWriter without writers takes everything and keeps nothing."""
    with keepfast.MultiWriter({}) as writer:
        writer.add_scalar("a", 1.0, 1)
        writer.add_text("a", "text")
        writer.flush()
        assert writer.state_dict() == {}


def test_a_sequence_of_writers_is_named_after_their_classes() -> None:
    """Writers given without names get their classes' names, told apart by position."""
    writer = keepfast.MultiWriter([ListWriter(), ListWriter(), FailingWriter(None)])
    assert list(writer.writers) == ["ListWriter", "ListWriter 1", "FailingWriter"]
    writer.close()


def test_a_failing_writer_is_reported_once_and_counted() -> None:
    """A writer that raises is told once with its name and cause; the tally at close counts every failure."""
    healthy, failing = ListWriter(), FailingWriter(OSError("no space left"))
    writer = keepfast.MultiWriter({"good": healthy, "bad": failing})
    with pytest.warns(keepfast.KeepfastWarning) as told:
        for step in range(3):
            writer.write_scalars({"a": 1.0}, step, 1.0)
            writer.flush()
        writer.close()
    messages = [str(warning.message) for warning in told]
    assert len(messages) == 2
    assert messages[0].startswith("writer `bad` failed: OSError: no space left")
    assert "bad: 3 of " in messages[1]
    assert "good" not in messages[1]
    assert len(healthy.scalars) == 3


def test_each_failing_writer_is_reported() -> None:
    """One writer's warning does not silence another's."""
    writers = {name: FailingWriter(OSError(f"{name} is full")) for name in ("disk", "net")}
    writer = keepfast.MultiWriter(writers)
    with pytest.warns(keepfast.KeepfastWarning) as told:
        write(writer, 2)
        writer.flush()
    assert sorted(str(warning.message).partition(";")[0] for warning in told) == [
        "writer `disk` failed: OSError: disk is full",
        "writer `net` failed: OSError: net is full",
    ]
    with pytest.warns(keepfast.KeepfastWarning, match="not every writer kept everything"):
        writer.close()


def test_a_writer_that_recovers_is_asked_again() -> None:
    """After a failure the writer goes on being asked, and what it keeps from then on is kept."""
    failing = FailingWriter(ValueError("for now"))
    writer = keepfast.MultiWriter({"bad": failing})
    with pytest.warns(keepfast.KeepfastWarning, match="for now"):
        writer.write_scalars({"a": 1.0}, 1, 1.0)
        writer.flush()
    failing.error = None
    writer.write_scalars({"a": 1.0}, 2, 1.0)
    writer.flush()
    assert failing.asked == 2
    assert (writer.health["bad"].failed, writer.health["bad"].failed_in_row) == (1, 0)
    with pytest.warns(keepfast.KeepfastWarning, match=r"bad: 1 of"):
        writer.close()


def test_raise_makes_a_writers_error_the_callers() -> None:
    """With on_error="raise" the error is raised at the very call, from its cause; the other writers got their value."""
    healthy, failing = ListWriter(), FailingWriter(OSError("no space left"))
    writer = keepfast.MultiWriter({"bad": failing, "good": healthy}, on_error="raise")
    with pytest.raises(
        keepfast.WriterFailed, match="writer `bad` failed in write_scalars: OSError: no space"
    ) as caught:
        writer.write_scalars({"a": 1.0}, 1, 1.0)
    assert caught.value.__cause__ is failing.error
    assert healthy.scalars == [(1, {"a": 1.0})]
    with pytest.warns(keepfast.KeepfastWarning, match="bad: 1 of"):
        writer.close()


def test_of_several_errors_the_first_is_raised() -> None:
    """At a write and at close alike, each writer having been called."""

    class FailingAtClose(FailingWriter):
        def close(self) -> None:
            self.asked += 1
            raise OSError("not closed")

    writers = {name: FailingAtClose(OSError("no space left")) for name in "abc"}
    writer = keepfast.MultiWriter(writers, on_error="raise")
    with pytest.raises(keepfast.WriterFailed, match="writer `a` failed in write_scalars"):
        writer.write_scalars({"a": 1.0}, 1, 1.0)
    with (
        pytest.warns(keepfast.KeepfastWarning, match="a: 2 of 2 calls failed"),
        pytest.raises(keepfast.WriterFailed, match="writer `c` failed in close"),
    ):
        writer.close()
    assert [one.asked for one in writers.values()] == [2, 2, 2]


def test_another_on_error_is_refused() -> None:
    """Anything but "warn" and "raise" is refused, and both are named."""
    with pytest.raises(keepfast.InvalidValue, match='`on_error` is \'ignore\'; allowed: "warn", "raise"'):
        keepfast.MultiWriter({}, on_error="ignore")  # type: ignore[arg-type]


def test_writers_share_nothing_they_could_change() -> None:
    """What one writer does to the values it got does not reach another."""

    class Spoiling(ListWriter):
        def write_scalars(self, scalars: Any, step: int, wall_time: float) -> None:
            scalars.clear()

        def write_histogram(self, tag: str, values: Any, *rest: Any, **options: Any) -> None:
            values[:] = 0

    kept = ListWriter()
    writer = keepfast.MultiWriter({"spoiling": Spoiling(), "kept": kept})
    writer.add_scalar("a", 1.0, 1)
    with pytest.warns(keepfast.KeepfastWarning, match=r"writer `spoiling` failed: .* read-only"):
        writer.add_histogram("h", np.ones(3), 1)
        writer.flush()
    assert kept.scalars == [(1, {"a": 1.0})]
    assert kept.arrays[0][1].tolist() == [1.0, 1.0, 1.0]
    with pytest.warns(keepfast.KeepfastWarning, match="spoiling: 1 of"):
        writer.close()


def test_writing_after_close_is_refused() -> None:
    """A value written after close is refused where it is written."""
    writer = keepfast.MultiWriter([ListWriter()])
    writer.close()
    writer.flush()
    with pytest.raises(keepfast.UsageError, match="write_scalars was called on writers that were closed"):
        writer.add_scalar("a", 1.0)


def test_every_writer_gets_pythons_own_numbers() -> None:
    """NumPy's numbers and 0-d arrays become floats, and the step an int, before any writer sees them."""
    kept = ListWriter()
    with keepfast.MultiWriter({"kept": kept}, on_error="raise") as writer:
        scalars = {"a": np.float32(1.5), "b": np.array([2]), "c": np.float64("inf"), "d": 3}
        writer.write_scalars(scalars, np.int64(3), np.float64(1.0))  # type: ignore[arg-type]
        writer.add_scalar("a", np.float64(4.0), np.int32(4))  # type: ignore[arg-type]
    assert kept.scalars == [(3, {"a": 1.5, "b": 2.0, "c": float("inf"), "d": 3.0}), (4, {"a": 4.0})]
    assert {type(step) for step, _ in kept.scalars} == {int}
    assert {type(value) for _, values in kept.scalars for value in values.values()} == {float}


def test_what_is_no_number_is_refused_where_it_is_written() -> None:
    """A value that is no number, and a step that is no whole one, are the caller's error and reach no writer."""
    kept = ListWriter()
    with keepfast.MultiWriter({"kept": kept}) as writer:
        with pytest.raises(keepfast.InvalidValue, match="the value of `a` is no number: 'x'"):
            writer.write_scalars({"a": "x"}, 1, 1.0)  # type: ignore[dict-item]
        with pytest.raises(keepfast.InvalidValue, match=r"`step` is 1.5 .*allowed: a whole number"):
            writer.write_scalars({"a": 1.0}, 1.5, 1.0)  # type: ignore[arg-type]
    assert kept.scalars == []


def test_flush_is_a_barrier() -> None:
    """When flush returns, every writer has everything and has flushed."""
    writers = [ListWriter(), ListWriter()]
    with keepfast.MultiWriter(writers) as writer:
        for round_ in range(1, 50):
            writer.add_scalar("a", 1.0, round_)
            writer.flush()
            assert [len(one.scalars) for one in writers] == [round_, round_]
            assert all(one.calls[-1] == "flush" for one in writers)


def test_settle_returns_when_everything_is_written_and_flushed() -> None:
    """When settle returns, every healthy writer has everything so far and has flushed; any thread may call it."""
    writers = [ListWriter(), ListWriter()]
    with keepfast.MultiWriter(writers) as writer:
        write(writer, 3000)
        settling = threading.Thread(target=writer.settle, args=(60.0,))
        settling.start()
        settling.join()
        assert [(len(one.scalars), one.calls) for one in writers] == [(3000, ["flush"])] * 2


def test_settle_waits_once_for_a_writer_that_hangs(gated: GatedWriter, waits: list[float]) -> None:
    """It waits the patience at most, tells nothing, and does not wait again while the writer is still at it."""
    healthy = ListWriter()
    writer = keepfast.MultiWriter({"good": healthy, "blocked": gated})
    writer.add_scalar("a", 1.0, 1)
    writer.settle(0.1)
    assert 0 < max(waits) <= 0.1
    assert healthy.calls == ["flush"]
    writer.settle(3600)  # would be noticed
    assert healthy.calls == ["flush", "flush"]
    gated.gate.set()
    writer.close()
    writer.settle(30)


def test_settle_does_not_wait_for_a_writer_known_to_hang(gated: GatedWriter) -> None:
    """A writer that is in one call for too long is left alone, even the first time."""
    writer = keepfast.MultiWriter({"blocked": gated})
    writer.add_scalar("a", 1.0, 1)
    gated.entered.wait()
    time.sleep(writer_lane.HANGING_CALL + 0.1)
    writer.settle(LONGER_THAN_A_TEST)
    gated.gate.set()
    writer.close()


class DrawingWriter(ListWriter):
    """Takes as long for each value as drawing a figure does."""

    seconds = 0.15

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        time.sleep(self.seconds)
        super().write_scalars(scalars, step, wall_time)


def test_settle_waits_for_a_writer_that_takes_its_time() -> None:
    """Figures and videos make a writer slow, not ill: what is behind is waited for where the patience suffices."""
    drawing = DrawingWriter()
    with keepfast.MultiWriter({"drawing": drawing}) as writer:
        write(writer, 4)
        writer.flush()
        write(writer, 4)
        writer.settle(30)
        assert (len(drawing.scalars), drawing.calls) == (8, ["flush", "flush"])


def test_settle_does_not_wait_for_a_writer_that_is_too_far_behind() -> None:
    """Where what is queued takes longer than the patience, going by what it took so far, no time is lost."""
    drawing = DrawingWriter()
    with keepfast.MultiWriter({"drawing": drawing}) as writer:
        write(writer, 2)
        writer.flush()
        write(writer, 40)
        writer.settle(0.5)
        drawing.seconds = 0.0
    assert drawing.calls == ["flush", "close"]  # the first one is not of settle, which did not even ask


class UnflushableWriter(ListWriter):
    """Raises in each flush."""

    def flush(self) -> None:
        raise OSError("no space left")


def test_a_flush_that_fails_is_not_waited_for() -> None:
    """It is done with, like one that succeeds: only its failure is told."""
    writer = keepfast.MultiWriter({"bad": UnflushableWriter()}, patience=10)
    with pytest.warns(keepfast.KeepfastWarning) as told:
        writer.flush()
    assert [str(warning.message).partition(";")[0] for warning in told] == [
        "writer `bad` failed: OSError: no space left"
    ]
    with pytest.warns(keepfast.KeepfastWarning, match="bad: 1 of 2 calls failed"):
        writer.close()


def test_settle_raises_nothing() -> None:
    """A writer that fails in it is counted like any other failure."""
    writer = keepfast.MultiWriter({"bad": UnflushableWriter()})
    writer.add_scalar("a", 1.0, 1)
    writer.settle(30)
    assert writer.health["bad"].failed == 1
    with pytest.warns(keepfast.KeepfastWarning, match="no space left"):
        writer.close()


def test_settle_leaves_its_error_to_the_next_call() -> None:
    """With on_error="raise" a flush that failed in it is raised by the next call, which is performed."""
    bad = UnflushableWriter()
    writer = keepfast.MultiWriter({"bad": bad}, on_error="raise")
    writer.settle(30)
    with pytest.raises(keepfast.WriterFailed, match="writer `bad` failed in flush: OSError: no space left"):
        writer.add_scalar("a", 1.0, 1)
    assert bad.scalars == [(1, {"a": 1.0})]
    writer.add_scalar("a", 2.0, 2)
    with pytest.warns(keepfast.KeepfastWarning, match="bad: 1 of"):
        writer.close()


def test_arrays_are_handed_over_as_they_are_now() -> None:
    """An array that changes after the call is kept as it was."""
    kept = ListWriter()
    values = np.zeros(3)
    with keepfast.MultiWriter({"kept": kept}) as writer:
        writer.add_histogram("h", values, 1)
        values[:] = 9
    assert kept.arrays[0][1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["image", "video", "histogram"])
def test_every_kind_of_array_is_handed_over_as_it_is_now(kind: str, gated: GatedWriter) -> None:
    """Though the writer gets it long after the loop has gone on and drawn into the same buffer."""
    kept: list[Any] = []

    class Late(GatedWriter):
        def write_image(self, tag: str, image: Any, *_: Any, **__: Any) -> None:
            kept.append(image)

        def write_video(self, tag: str, video: Any, *_: Any, **__: Any) -> None:
            kept.append(video)

        def write_histogram(self, tag: str, values: Any, *_: Any, **__: Any) -> None:
            kept.append(values)

    late = Late()
    late.gate = gated.gate
    writer = keepfast.MultiWriter({"late": late})
    writer.add_scalar("a", 1.0, 1)
    array = np.zeros((3, 4, 4) if kind == "image" else (1, 2, 3, 4, 4))
    getattr(writer, f"add_{kind}")("tag", array, 1)
    array[...] = 9
    gated.gate.set()
    writer.close()
    assert kept[0].max() == 0


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the figures that were closed, of a pyplot that needs no matplotlib."""
    figures: list[Any] = []
    pyplot = SimpleNamespace(close=figures.append)
    monkeypatch.setitem(sys.modules, "matplotlib", SimpleNamespace(pyplot=pyplot))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
    return figures


class FigureWriter(ListWriter):
    """Notes what it is to draw, whether to close it, and what was closed by then."""

    def __init__(self, closed: list[Any]) -> None:
        super().__init__()
        self.closed = closed
        self.drawn: list[Any] = []

    def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
        time.sleep(0.05)
        self.drawn.append((figure, close, list(self.closed)))


def test_figures_are_closed_once_all_writers_have_drawn_them(closed: list[Any]) -> None:
    """Each draws an open figure and leaves it open; then it is closed, where that was asked for."""
    writers = [FigureWriter(closed), FigureWriter(closed)]
    with keepfast.MultiWriter(writers) as writer:
        writer.write_figure("f", "kept", 1, 1.0, close=False)
        assert closed == []
        writer.write_figure("f", ["one", "two"], 2, 1.0)
        assert closed == ["one", "two"]
    for one in writers:
        assert one.drawn == [("kept", False, []), (["one", "two"], False, [])]


def test_what_a_writer_does_not_keep_is_told_where_it_was_asked() -> None:
    """The one warning that a writer does not keep texts points at the line that wrote a text."""
    with keepfast.MultiWriter({"plain": FailingWriter(None)}) as writer:
        with pytest.warns(keepfast.KeepfastWarning, match="FailingWriter does not keep texts") as told:
            writer.add_text("a", "text")
            writer.add_text("b", "text")
        assert len(told) == 1
        assert told[0].filename == __file__


def test_writers_are_closed_last_first_and_once() -> None:
    """Closing goes backwards, so that one writer may rest on another; the second time nothing happens."""
    order: list[str] = []

    class Noting(FailingWriter):
        def __init__(self, name: str) -> None:
            super().__init__(None)
            self.name = name

        def close(self) -> None:
            order.append(self.name)

    writer = keepfast.MultiWriter({name: Noting(name) for name in "abc"})
    write(writer, 2)
    writer.close()
    writer.close()
    assert order == ["c", "b", "a"]


def test_states_travel_by_name() -> None:
    """Each writer's state is kept under its name, and given back before anything is written."""
    with keepfast.MultiWriter({"one": ListWriter(), "stateless": FailingWriter(None)}) as writer:
        write(writer, 4)
        state = writer.state_dict()
    assert state == {"one": {"written": 4}}
    again = ListWriter()
    with keepfast.MultiWriter({"one": again}) as writer:
        writer.load_state_dict(state)
    assert again.calls[0] == "load 4"


def test_a_state_is_stored_as_it_is_now() -> None:
    """What the writer makes of it afterwards does not reach the checkpoint."""

    class Growing(ListWriter):
        rows: list[int] = [1]  # noqa: RUF012  (what the test changes)

        def state_dict(self) -> dict[str, Any]:
            return {"rows": self.rows}

    growing = Growing()
    with keepfast.MultiWriter({"growing": growing}) as writer:
        state = writer.state_dict()
        growing.rows.append(2)
    assert state == {"growing": {"rows": [1]}}


class OddStateWriter(ListWriter):
    """Gives whatever state it is told to."""

    state: Any = None

    def state_dict(self) -> dict[str, Any]:
        return self.state  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("state", "message"), [({"file": object()}, "`file` is a builtins.object"), (None, "`state_dict` returned None")]
)
def test_a_state_that_cannot_be_stored_is_that_writers_failure(state: Any, message: str) -> None:
    """It is counted as its writer's, which keeps its state before; the other writers' states are kept."""
    odd = OddStateWriter()
    odd.state = {"run": "abc"}
    writer = keepfast.MultiWriter({"odd": odd, "good": ListWriter()})
    assert writer.state_dict() == {"odd": {"run": "abc"}, "good": {"written": 0}}
    odd.state = state
    assert writer.state_dict() == {"odd": {"run": "abc"}, "good": {"written": 0}}
    assert writer.health["odd"].failed == 1
    with pytest.warns(keepfast.KeepfastWarning, match=message):
        writer.close()


def test_a_state_that_cannot_be_stored_can_be_an_error() -> None:
    """With on_error="raise" it is raised, with the writer's name."""
    odd = OddStateWriter()
    odd.state = {"file": object()}
    writer = keepfast.MultiWriter({"odd": odd}, on_error="raise")
    with pytest.raises(keepfast.WriterFailed, match="writer `odd` failed in state_dict: InvalidValue: `file` is"):
        writer.state_dict()
    with pytest.warns(keepfast.KeepfastWarning, match="odd: 1 of"):
        writer.close()


def test_a_checkpoint_does_not_wait_for_a_blocked_writer(
    gated: GatedWriter, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a writer blocks, its last known state is what a checkpoint gets."""

    class Stateful(GatedWriter):
        def state_dict(self) -> dict[str, Any]:
            return {"run": "abc"}

    blocked = Stateful()
    blocked.gate = gated.gate
    monkeypatch.setattr("keepfast.tracking.multi_writer.STATE_SECONDS", 5.0)
    writer = keepfast.MultiWriter({"blocked": blocked})
    assert writer.state_dict() == {"blocked": {"run": "abc"}}
    monkeypatch.setattr("keepfast.tracking.multi_writer.STATE_SECONDS", 0.01)
    writer.write_scalars({"a": 1.0}, 1, 1.0)
    waits.clear()
    assert writer.state_dict() == {"blocked": {"run": "abc"}}
    assert waits in ([0.01], [])  # none where it is known to be slow
    gated.gate.set()
    writer.close()
