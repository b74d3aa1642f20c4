"""Writer: the calls that every writer has, checked before anything is handed on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import keepfast


class NotingWriter(keepfast.Writer):
    """Notes what reaches it; closing raises what it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.noted: list[Any] = []

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.noted.append(scalars)

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        self.noted.append(text)

    def write_figure(self, tag: str, figure: Any, step: int, wall_time: float, *, close: bool = True) -> None:
        self.noted.append(figure)

    def close(self) -> None:
        if self.error is not None:
            raise self.error


class PlacedWriter(keepfast.Writer):
    """Notes of each value its step and time."""

    def __init__(self) -> None:
        self.noted: list[Any] = []

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        self.noted.append((step, wall_time))

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        self.noted.append((step, wall_time))


class Figure:
    """Has what every matplotlib figure has."""

    canvas = None


CALLS: dict[str, Callable[[keepfast.Writer, Any], None]] = {
    "scalar": lambda writer, tag: writer.add_scalar(tag, 1.0, 1),
    "histogram": lambda writer, tag: writer.add_histogram(tag, np.zeros(3), 1),
    "image": lambda writer, tag: writer.add_image(tag, np.zeros((3, 4, 4)), 1),
    "text": lambda writer, tag: writer.add_text(tag, "text", 1),
    "figure": lambda writer, tag: writer.add_figure(tag, Figure(), 1),
    "video": lambda writer, tag: writer.add_video(tag, np.zeros((1, 2, 3, 4, 4)), 1),
    "hparams": lambda writer, tag: writer.add_hparams({}, {tag: 1.0}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("tag", [5, None, b"a"])
def test_a_tag_that_is_no_string_is_refused(call: Callable[[keepfast.Writer, Any], None], tag: Any) -> None:
    """The error shows the tag and what is allowed, and the writer gets nothing."""
    writer = NotingWriter()
    with pytest.raises(keepfast.InvalidValue, match=rf"`tag` is {tag!r} \({type(tag).__name__}\); allowed: a string"):
        call(writer, tag)
    assert writer.noted == []


def test_a_value_has_the_step_and_time_that_are_given() -> None:
    """Without a step it is 0, and without a time it is now."""
    writer = PlacedWriter()
    writer.add_scalar("a", 1.0, 10, walltime=5.5)
    writer.add_text("a", "text", np.int64(20), walltime=6)  # type: ignore[arg-type]
    before = time.time()
    writer.add_scalar("a", 1.0)
    (first, second, (step, wall_time)) = writer.noted
    assert (first, second, step) == ((10, 5.5), (20, 6.0), 0)
    assert before <= wall_time <= time.time()


def test_what_a_writer_does_not_keep_is_told_once_for_each_kind() -> None:
    """The warning names the writer and what is dropped."""
    writer = PlacedWriter()
    with pytest.warns(keepfast.KeepfastWarning) as told:
        for _ in range(3):
            writer.add_image("i", np.zeros((3, 4, 4)), 1)
            writer.add_histogram("h", np.zeros(3), 1)
    assert [str(warning.message).partition(";")[0] for warning in told] == [
        "PlacedWriter does not keep images",
        "PlacedWriter does not keep histograms",
    ]


def test_a_text_that_is_no_string_is_refused() -> None:
    """A number is no text, for no writer."""
    writer = NotingWriter()
    with pytest.raises(keepfast.InvalidValue, match=r"`text_string` is 123 \(int\); allowed: a string"):
        writer.add_text("t", 123)  # type: ignore[arg-type]
    assert writer.noted == []


@pytest.mark.parametrize("given", [(Figure(), Figure()), [], "f.png", None, [Figure(), None]])
def test_what_is_no_figure_is_refused(given: Any) -> None:
    """A figure or a list of figures is taken, and nothing else: a tuple is what the libraries do not take."""
    writer = NotingWriter()
    with pytest.raises(keepfast.InvalidValue, match=r"`figure` is .*allowed: a matplotlib figure, or a list of them"):
        writer.add_figure("f", given, 1)
    assert writer.noted == []


def test_figures_are_taken_alone_and_as_a_list() -> None:
    """They reach the writer as they were given."""
    writer, figure = NotingWriter(), Figure()
    writer.add_figure("f", figure, 1)
    writer.add_figure("f", [figure, figure], 2)
    assert writer.noted == [figure, [figure, figure]]


def test_the_first_error_is_the_one_seen_at_the_end_of_a_with_statement() -> None:
    """What closing raises after an error is noted with that error, and hides it not."""
    with pytest.raises(ZeroDivisionError) as caught, NotingWriter(OSError("no space left")):
        _ = 1 / 0
    assert caught.value.__notes__ == ["and then: OSError: no space left"]
    with pytest.raises(OSError, match="no space left"), NotingWriter(OSError("no space left")):
        pass


def test_what_ends_the_program_hides_no_error() -> None:
    """SystemExit tells of nothing, so that what closing raises then is raised."""
    with pytest.raises(OSError, match="no space left"), NotingWriter(OSError("no space left")):
        raise SystemExit(0)


@pytest.mark.parametrize("step", [1.5, "4", True, 2.0, None.__class__, [1]])
@pytest.mark.parametrize("call", ["add_scalar", "add_text", "add_histogram"])
def test_a_step_that_is_no_whole_number_is_refused(call: str, step: Any) -> None:
    """No call makes a step of what is none: 1.5 was 1 once, and "4" was 4."""
    kept = NotingWriter()
    given = {"add_scalar": 1.0, "add_text": "text", "add_histogram": [1.0]}[call]
    with pytest.raises(keepfast.InvalidValue, match=r"`global_step` is .*; allowed: a whole number"):
        getattr(kept, call)("tag", given, step)
    assert kept.noted == []
