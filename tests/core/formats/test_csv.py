"""Memories as csv: the text itself, and what is said of a broken one."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("polars")
pytestmark = pytest.mark.needs("polars")

from keepfast import codec  # noqa: E402
from keepfast.errors import CorruptMemory  # noqa: E402
from keepfast.formats.memories.csv import cells, text  # noqa: E402
from keepfast.formats.memories.csv.exporter import CsvExporter  # noqa: E402
from keepfast.interfaces.memory_exporter import MemorySnapshot  # noqa: E402
from tests.hostile.making import csv_with  # noqa: E402


def work_by(way, monkeypatch):
    """Let the format work through polars, or cell by cell as it does in a forked child."""
    monkeypatch.setattr(text, "_PROCESS", os.getpid() if way == "polars" else os.getppid())


@pytest.fixture(params=["polars", "cells"])
def way(request, monkeypatch):
    """One of the two ways in which the text is made and read."""
    work_by(request.param, monkeypatch)
    return request.param


@pytest.fixture
def path(tmp_path, way):
    tensors = {
        "states": np.array([[[0.1, -2.5]], [[1e-10, np.nan]], [[0, 0]]], np.float32),
        "terminated": np.array([[[True]], [[False]], [[False]]]),
        "actions": np.array([[[3]], [[-1]], [[0]]]),
    }
    CsvExporter().save(MemorySnapshot(tensors, 2, 0, filled=False), tmp_path / "memory.csv")
    return tmp_path / "memory.csv"


def test_the_text_is_plain(path):
    """There is a line of names and one for each sample, floats are as short as they can be, and nothing else."""
    assert path.read_text() == "states.0,states.1,terminated.0,actions.0\n0.1,-2.5,true,3\n1e-10,NaN,false,-1\n"
    assert [file.name for file in sorted(path.parent.iterdir())] == ["memory.csv", "memory.csv.json"]
    assert json.loads((path.parent / "memory.csv.json").read_text())["memory"]["memory_size"] == 3


def test_polars_reads_it(path):
    """Without an option, polars has each column in its own dtype."""
    import polars as pl

    table = pl.read_csv(path)
    assert table["terminated.0"].to_list() == [True, False]
    assert table["actions.0"].to_list() == [3, -1]
    assert table["states.0"].to_list() == [0.1, 1e-10]
    assert table["states.1"].is_nan().to_list() == [False, True]


@pytest.mark.needs("polars", "pandas")
def test_pandas_reads_it(path):
    """Without an option, pandas has each column in its own dtype."""
    import pandas as pd

    table = pd.read_csv(path)
    assert list(map(str, table.dtypes)) == ["float64", "float64", "bool", "int64"]
    assert table["states.0"].tolist() == [0.1, 1e-10]
    assert table["actions.0"].tolist() == [3, -1]
    assert table["states.1"].isna().tolist() == [False, True]


def test_python_reads_it(path):
    """The module of the standard library has a row of the same length for each sample."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["states.0"]) for row in rows] == [0.1, 1e-10]
    assert [row["terminated.0"] for row in rows] == ["true", "false"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("-2.5,true,3", "-2.5;true,3", "line 2 has 3 cells where 4 belong"),
        ("-2.5,true,3", "-2.5,true,x", "line 2 has, as `actions.0`, b'x' is no int64"),
        ("1e-10", "1e-.7", "line 3 has, as `states.0`, b'1e-.7' is no float32"),
        ("NaN,false", "NaN,maybe", "line 3 has, as `terminated.0`, b'maybe' is no bool"),
        ("0.1,", "0.2,", "its checksums are not those it was written with"),
        ("NaN,false,-1\n", "NaN,false,-1", "it ends after"),
        ("states.0", "status.0", "its checksums are not those it was written with"),
    ],
)
def test_a_broken_row_is_named_by_its_line(path, old, new, said):
    """A row that was changed is reported with its line, its column and what it holds."""
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CorruptMemory) as raised:
        CsvExporter().load(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"-2.5,true,3", b"-2.5,true", "line 2 has 3 cells where 4 belong"),
        (b"0.1,-2.5,true,3\n", b"", "1 lines, where 2 belong"),
        (b"0.1,", b"1_0,", "line 2 has, as `states.0`, b'1_0' is no float32"),
        (b"0.1,", b",", "line 2 has, as `states.0`, b'' is no float32"),
        (b'"memory_size":3', b'"memory_size":2305843009213693952', "which it is too small for"),
        (b'"memory_index":2', b'"memory_index":1', "2 lines, where 1 belong"),
        (b'"size":[2]', b'"size":[3]', "line 2 has 4 cells where 5 belong"),
        (b'"dtype":"float32"', b'"dtype":"U8"', "`states` has the dtype"),
    ],
)
def test_what_a_digest_was_made_for_is_checked_nevertheless(path, old, new, said):
    """Rows, cells and sizes that cannot be are told as what they are, though the sums fit them."""
    with pytest.raises(CorruptMemory) as raised:
        CsvExporter().load(csv_with(path, old, new))
    assert said in str(raised.value)


def test_titles_are_those_of_one_column_each(tmp_path):
    """Names that a table has no room for are spelled otherwise, and no two columns share a title."""
    tensors = {name: np.zeros((1, 1, 1), np.int8) for name in ("a b", "a_b", "#a", 'x,"y"')}
    CsvExporter().save(MemorySnapshot(tensors, 0, 0, filled=True), tmp_path / "memory.csv")
    assert (tmp_path / "memory.csv").read_text().splitlines()[0] == "a_b.0,a_b_.0,_a.0,x__y_.0"
    assert list(CsvExporter().load(tmp_path / "memory.csv").tensors) == list(tensors)


def test_the_nan_of_calculations_is_plain(tmp_path, way):
    """A NaN is written as other tools write it, also one that carries bits of its own, which lie beside."""
    values = np.array([0x7FC00000, 0xFFC00000, 0x7FC00001, 0x7F800000], np.uint32).view(np.float32).reshape(1, 1, 4)
    snapshot = MemorySnapshot({"x": values}, 0, 0, filled=True)
    CsvExporter().save(snapshot, tmp_path / "memory.csv")
    assert (tmp_path / "memory.csv").read_text().splitlines()[1] == "NaN,-NaN,NaN,inf"
    assert CsvExporter().load(tmp_path / "memory.csv").tensors["x"].tobytes() == values.tobytes()


def test_lines_longer_than_a_part_are_read(tmp_path, way, monkeypatch):
    """A tensor of very many columns is read although not even one of its lines fits a part."""
    monkeypatch.setattr(text, "PART", 1 << 14)
    values = np.random.default_rng(0).normal(size=(3, 2, 4_000)).astype(np.float32)
    CsvExporter().save(MemorySnapshot({"x": values}, 0, 0, filled=True), tmp_path / "wide.csv")
    np.testing.assert_array_equal(CsvExporter().load(tmp_path / "wide.csv").tensors["x"], values)


def hard_values(dtype):
    """Return values whose text or rounding is hard: every one of 16 bits, or random bits and edges of wider floats."""
    if dtype.itemsize < 4:
        return np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    unsigned = f"u{dtype.itemsize}"
    bits = np.random.default_rng(0).integers(0, np.iinfo(unsigned).max, 20_000, unsigned, endpoint=True)
    powers = (10.0 ** np.arange(-45, 39)).astype(dtype).view(unsigned)
    singles = (10.0 ** np.arange(-37, 39)).astype(np.float32).astype(dtype).view(unsigned)
    return np.concatenate([bits, powers, powers - 1, powers + 1, singles]).view(dtype)


FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.needs("polars", "ml_dtypes")
@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_exact_in_their_shortest_form(tmp_path, name, way, monkeypatch):
    """Every value comes back bit by bit, and no text has more digits than it takes; each way reads the other's file."""
    values = hard_values(codec.dtype_of(name)).reshape(-1, 4)
    snapshot = MemorySnapshot({"x": values[:, np.newaxis]}, 0, 0, filled=True)
    CsvExporter().save(snapshot, tmp_path / "memory.csv")
    assert CsvExporter().load(tmp_path / "memory.csv").tensors["x"].tobytes() == values.tobytes()
    found = ",".join((tmp_path / "memory.csv").read_text().splitlines()[1:]).split(",")
    shortest = cells.cell_texts(values.reshape(-1))
    assert [digits(cell) for cell in found] == [digits(cell) for cell in shortest]
    work_by("cells" if way == "polars" else "polars", monkeypatch)
    assert text.is_forked() == (way == "polars")
    assert CsvExporter().load(tmp_path / "memory.csv").tensors["x"].tobytes() == values.tobytes()


def digits(cell):
    """Return how many digits a text gives, zeros at either end aside."""
    mantissa = cell.split("e")[0].lstrip("-")
    return cell if not mantissa[0].isdigit() else len(mantissa.replace(".", "").strip("0"))


def test_single_precision_is_rounded_once(tmp_path, way):
    """The text that double precision takes for the middle of two floats is read as the one that was written."""
    values = np.array([0x15AE43FD, 0x15AE43FE], np.uint32).view(np.float32).reshape(1, 1, 2)
    CsvExporter().save(MemorySnapshot({"x": values}, 0, 0, filled=True), tmp_path / "memory.csv")
    assert b"\n7.038531e-26," in (tmp_path / "memory.csv").read_bytes()
    assert CsvExporter().load(tmp_path / "memory.csv").tensors["x"].tobytes() == values.tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked there")
def test_a_forked_child_writes_and_reads(tmp_path):
    """A child forked after its parent wrote csv is not left waiting for threads that only the parent has."""
    script = """
import os, signal, sys
import numpy as np
from pathlib import Path
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.formats.memories.csv.exporter import CsvExporter
snapshot = MemorySnapshot({"x": np.ones((20_000, 4, 2), np.float32)}, 0, 0, True)
path = Path(sys.argv[1])
CsvExporter().save(snapshot, path)
if not (child := os.fork()):
    signal.alarm(60)
    CsvExporter().save(snapshot, path)
    os._exit(CsvExporter().load(path).tensors["x"].sum() != 160_000)
sys.exit(os.waitpid(child, 0)[1])
"""
    command = [sys.executable, "-W", "ignore", "-c", script, tmp_path / "memory.csv"]
    assert subprocess.run(command, check=False).returncode == 0
