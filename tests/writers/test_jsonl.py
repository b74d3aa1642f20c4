"""metrics.jsonl: strict JSON lines, mended at each start."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast_writers.jsonl import JsonlWriter

START = 1_700_000_000.5


def lines(context: keepfast.WriterContext) -> list[Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not strict JSON")

    content = (context.directory / "metrics.jsonl").read_text("utf-8")
    assert content == "" or content.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in content.splitlines()]


def resumed(context: keepfast.WriterContext, step: int) -> keepfast.WriterContext:
    return keepfast.WriterContext(context.directory, context.experiment_name, resume_step=step)


def test_each_write_is_one_line(context: keepfast.WriterContext) -> None:
    """A write makes one line with step, wall time and values, in the file at once."""
    writer = JsonlWriter(context)
    writer.write_scalars({"Loss / Policy loss": 0.25, "Größe": -1.0}, 10, START)
    assert lines(context) == [{"step": 10, "wall_time": START, "scalars": {"Loss / Policy loss": 0.25, "Größe": -1.0}}]
    writer.close()


def test_values_that_are_not_finite_are_strings(context: keepfast.WriterContext) -> None:
    """NaN and the infinities, which JSON does not have, are strings that Python's float() takes."""
    with JsonlWriter(context) as writer:
        writer.write_scalars({"a": math.nan, "b": math.inf, "c": -math.inf}, 1, START)
    (line,) = lines(context)
    assert line["scalars"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}
    assert [float(value) for value in line["scalars"].values()][1:] == [math.inf, -math.inf]


def test_values_within_hyperparameters_are_strict_json_too(context: keepfast.WriterContext) -> None:
    """What lies in lists and dicts of hyperparameters is treated like what stands alone; numbers stay numbers."""
    nested = {"clip": [0.1, math.inf], "net": {"scale": (math.nan,), 1: np.float32(0.5)}, "seed": np.array(7)}
    with JsonlWriter(context) as writer:
        writer.add_hparams({**nested, "set": {1}}, {}, global_step=1)
    (line,) = lines(context)
    expected = {"clip": [0.1, "Infinity"], "net": {"scale": ["NaN"], "1": 0.5}, "seed": 7, "set": "{1}"}
    assert line["hparams"] == expected


def test_numbers_of_other_libraries_are_numbers(context: keepfast.WriterContext) -> None:
    """NumPy's numbers, given to the writer itself, are no strings in the file."""
    with JsonlWriter(context) as writer:
        writer.write_scalars({"a": np.float32(0.5), "b": np.array(2), "c": np.float64("nan")}, np.int64(3), START)
    assert lines(context) == [{"step": 3, "wall_time": START, "scalars": {"a": 0.5, "b": 2.0, "c": "NaN"}}]


def test_texts_and_hyperparameters_have_lines_of_their_own(context: keepfast.WriterContext) -> None:
    """Texts and hyperparameters are kept under keys of their own, which readers of scalars pass over."""
    with JsonlWriter(context) as writer:
        writer.add_text("Notes", "two\nlines", 1, walltime=START)
        writer.add_hparams({"lr": 1e-3, "path": Path("x")}, {"score": 2.0}, run_name="trial", global_step=2)
    text, hparams = lines(context)
    assert text == {"step": 1, "wall_time": START, "texts": {"Notes": "two\nlines"}}
    assert (hparams["hparams"], hparams["metrics"]) == ({"lr": 1e-3, "path": "x"}, {"score": 2.0})
    assert keepfast.read_metrics(context.directory) == {}


def test_a_torn_line_is_passed_over_and_cut_off(context: keepfast.WriterContext) -> None:
    """Half a line at the end, as a kill leaves it, is not read, and the next start begins on a line of its own."""
    with JsonlWriter(context) as writer:
        writer.write_scalars({"a": 1.0}, 1, START)
    path = context.directory / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 2, "wall_time": 17000')
    assert keepfast.read_metrics(path)["a"].steps.tolist() == [1]
    with JsonlWriter(context) as writer:
        writer.write_scalars({"a": 3.0}, 3, START)
    assert [line["step"] for line in lines(context)] == [1, 3]


def test_a_resumed_run_cuts_what_lies_beyond_in_one_step(
    context: keepfast.WriterContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines beyond the step the run goes on from are gone; where cutting fails, the file is as it was."""
    with JsonlWriter(context) as writer:
        for step in (10, 20, 30):
            writer.write_scalars({"a": float(step)}, step, START)
    path = context.directory / "metrics.jsonl"
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", refuse)
        with pytest.raises(keepfast.WriteFailed, match="No space left"):
            JsonlWriter(resumed(context, 20))
    assert path.read_bytes() == before
    JsonlWriter(resumed(context, 20)).close()
    assert [line["step"] for line in lines(context)] == [10, 20]


@pytest.mark.parametrize("line", [b'{"step": Infinity}', b"[" * 100_000, b"text"])
def test_a_line_that_is_not_ours_goes_at_a_resume(context: keepfast.WriterContext, line: bytes) -> None:
    """A line without a step that can be compared keeps no run from going on, and goes as what lies beyond does."""
    path = context.directory / "metrics.jsonl"
    path.write_bytes(line + b'\n{"step": 1, "wall_time": 1.0, "scalars": {"a": 1.0}}\n')
    JsonlWriter(resumed(context, 1)).close()
    assert [entry["step"] for entry in lines(context)] == [1]


def test_a_surrogate_in_a_tag_does_no_harm(context: keepfast.WriterContext) -> None:
    """A tag that UTF-8 cannot hold is kept with its odd character spelled out."""
    with JsonlWriter(context) as writer:
        writer.write_scalars({"a\udc80": 1.0}, 1, START)
    assert [line["step"] for line in lines(context)] == [1]
