"""metrics.csv: a row a value, whatever tags come."""

from __future__ import annotations

import csv

import numpy as np

import keepfast
from keepfast_writers.csv import CsvWriter

START = 1_700_000_000.5


def rows(context: keepfast.WriterContext) -> list[list[str]]:
    with (context.directory / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_each_value_is_one_row_under_one_header(context: keepfast.WriterContext) -> None:
    """The file has one header, also after several starts, and a row for each value."""
    with CsvWriter(context) as writer:
        writer.write_scalars({"Loss / Policy loss": 0.1, 'b, "quoted"': 2.0}, 10, START)
    with CsvWriter(context) as writer:
        writer.write_scalars({"Loss / Policy loss": 0.2}, 20, START)
    assert rows(context) == [
        ["step", "wall_time", "tag", "value"],
        ["10", "1700000000.5", "Loss / Policy loss", "0.1"],
        ["10", "1700000000.5", 'b, "quoted"', "2.0"],
        ["20", "1700000000.5", "Loss / Policy loss", "0.2"],
    ]


def test_a_late_tag_rewrites_no_history(context: keepfast.WriterContext) -> None:
    """A tag that appears late only adds bytes at the end of the file."""
    path = context.directory / "metrics.csv"
    with CsvWriter(context) as writer:
        writer.write_scalars({"a": 1.0}, 1, START)
        before = path.read_bytes()
        writer.write_scalars({"a": 2.0, "late": 3.0}, 2, START)
    assert path.read_bytes().startswith(before)
    assert list(keepfast.read_metrics(path)) == ["a", "late"]


def test_a_torn_row_is_passed_over_and_cut_off(context: keepfast.WriterContext) -> None:
    """Half a row at the end is not read, and the next start begins on a row of its own."""
    with CsvWriter(context) as writer:
        writer.write_scalars({"a": 1.0}, 1, START)
    path = context.directory / "metrics.csv"
    path.write_bytes(path.read_bytes() + b"2,17000")
    assert keepfast.read_metrics(path)["a"].steps.tolist() == [1]
    with CsvWriter(context) as writer:
        writer.write_scalars({"a": 3.0}, 3, START)
    assert [row[0] for row in rows(context)] == ["step", "1", "3"]


def test_numbers_of_other_libraries_are_plain_numbers(context: keepfast.WriterContext) -> None:
    """NumPy's numbers, given to the writer itself, stand as Python's own do, and come back."""
    with CsvWriter(context) as writer:
        writer.write_scalars({"a": np.float64(1.0), "b": np.float32(0.5)}, np.int64(3), START)
    assert [row[0::3] for row in rows(context)[1:]] == [["3", "1.0"], ["3", "0.5"]]
    assert list(keepfast.read_metrics(context.directory)) == ["a", "b"]


def test_a_resumed_run_cuts_by_number(context: keepfast.WriterContext) -> None:
    """A negative step lies before every other; a row without a step goes, the header stays."""
    path = context.directory / "metrics.csv"
    path.write_text("step,wall_time,tag,value\n-5,1.0,a,1.0\nx,1.0,a,1.0\n5,1.0,a,1.0\n15,1.0,a,1.0\n")
    CsvWriter(keepfast.WriterContext(context.directory, "run", resume_step=10)).close()
    assert [row[0] for row in rows(context)] == ["step", "-5", "5"]


def test_a_line_break_in_a_tag_makes_no_second_row(context: keepfast.WriterContext) -> None:
    """A tag with a line break stays on one line, so that a cut never parts a row."""
    with CsvWriter(context) as writer:
        writer.write_scalars({"two\nlines": 1.0}, 1, START)
    assert rows(context)[1][2] == "two lines"
