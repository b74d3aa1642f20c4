"""What lies beside a csv of a memory: there before it, and nothing without it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("polars")
pytestmark = pytest.mark.needs("polars")

import keepfast  # noqa: E402
from keepfast.errors import CorruptMemory, InvalidValue, NotFound, WriteFailed  # noqa: E402
from keepfast.formats.memories.csv.exporter import CsvExporter  # noqa: E402
from keepfast.interfaces.memory_exporter import MemorySnapshot  # noqa: E402
from keepfast.memories.files import verify_memories  # noqa: E402
from keepfast.testing.memory_exporter import assert_same  # noqa: E402


def memory(first: float) -> MemorySnapshot:
    """Return a memory whose numbers begin with one."""
    values = (np.arange(24, dtype=np.float32) + np.float32(first)).reshape(3, 2, 4)
    return MemorySnapshot({"states": values, "actions": values[..., :1].astype(np.int8)}, 1, 0, True, {"a": 1})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    CsvExporter().save(memory(0.5), tmp_path / "m.csv")
    return tmp_path / "m.csv"


def test_without_its_companion_it_is_another_tool_s(path: Path) -> None:
    """A row for each line, in the dtypes that the texts tell; the header's spelling makes one tensor of its columns."""
    (path.parent / "m.csv.json").unlink()
    found = keepfast.read_memory(path)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.tensors.items()} == {
        "states": (np.float64, (6, 1, 4)),
        "actions": (np.int64, (6, 1, 1)),
    }
    assert found["states"].reshape(-1).tolist() == (np.arange(24) + 0.5).tolist()


@pytest.mark.parametrize("values", [7.5, 1e9], ids=["as large", "larger"])
@pytest.mark.parametrize("before", ["ours", "foreign", "none"])
def test_a_kill_between_the_two_names_loses_neither(
    tmp_path: Path, before: str, values: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The companion has its name first: until the csv has it too, what was there before is read as what it is."""
    path = tmp_path / "m.csv"
    if before != "none":
        CsvExporter().save(memory(0.5), path)
    if before == "foreign":
        (tmp_path / "m.csv.json").unlink()
    killed = tmp_path / "killed"
    replace = os.replace

    def recorded(source: Path, target: Path) -> None:
        replace(source, target)
        shutil.copytree(tmp_path, killed / str(target.name), ignore=lambda *_: ["killed"])

    monkeypatch.setattr(os, "replace", recorded)
    CsvExporter().save(memory(values), path)
    monkeypatch.undo()
    assert sorted(child.name for child in killed.iterdir()) == ["m.csv", "m.csv.json"]
    assert_same(keepfast.read_memory(killed / "m.csv" / "m.csv"), memory(values))
    between = killed / "m.csv.json"
    if before == "ours":
        assert_same(keepfast.read_memory(between / "m.csv"), memory(0.5))
        CsvExporter().save(memory(3.0), between / "m.csv")  # and another save goes on from there
        assert_same(keepfast.read_memory(between / "m.csv"), memory(3.0))
    elif before == "foreign":
        assert keepfast.read_memory(between / "m.csv")["states"].shape == (6, 1, 4)
    else:
        assert not (between / "m.csv").exists()
        with pytest.raises(NotFound):
            verify_memories(between / "*")


def test_a_csv_that_another_tool_changed_is_not_damaged(path: Path) -> None:
    """It is read as that tool's, with a warning that says so."""
    path.write_text(path.read_text() + "1.0,2.0,3.0,4.0,5\n")
    with pytest.warns(keepfast.KeepfastWarning, match="was changed since Keepfast wrote"):
        assert keepfast.read_memory(path)["states"].shape == (7, 1, 4)
    path.write_text("x\n1\n2\n")
    with pytest.warns(keepfast.KeepfastWarning, match="was changed since Keepfast wrote"):
        assert keepfast.read_memory(path)["x"].tolist() == [[[1]], [[2]]]


def test_a_damaged_companion_is_named(path: Path) -> None:
    """However it is laid out it says the same; with other words it is damaged, and is none of ours without ours."""
    companion = path.parent / "m.csv.json"
    told = companion.read_text()
    companion.write_text(told.replace(",", ", "))
    assert_same(keepfast.read_memory(path), memory(0.5))
    for damaged in (told.replace('"memory_index":1', '"memory_index":2'), told[:-9], told[30:]):
        companion.write_text(damaged)
        with pytest.raises(CorruptMemory, match=r"m\.csv\.json` is damaged"):
            keepfast.read_memory(path)
    companion.write_text('{"memory": 1}')
    with pytest.warns(keepfast.KeepfastWarning, match="is none that Keepfast wrote and is passed over"):
        assert keepfast.read_memory(path)["states"].shape == (6, 1, 4)


def test_what_is_not_ours_is_neither_replaced_nor_removed(path: Path) -> None:
    """Another tool's document of that name stays: a save is refused, and a removal leaves it."""
    companion = path.parent / "m.csv.json"
    companion.write_text("[]")
    with pytest.raises(WriteFailed, match="would be lost; move it"):
        CsvExporter().save(memory(1.0), path)
    CsvExporter().remove(path)
    assert list(path.parent.iterdir()) == [companion]


def test_the_two_are_one_memory(path: Path) -> None:
    """Whoever goes over a directory meets the csv alone."""
    assert verify_memories(path.parent / "*") == {path: None}
    assert [found for found, _ in keepfast.iter_memories(path.parent / "*")] == [path]


def test_a_link_is_read_with_what_lies_beside_the_file(path: Path, tmp_path: Path) -> None:
    """It is the same memory by each name."""
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "other.csv").symlink_to(path)
    assert_same(keepfast.read_memory(tmp_path / "links" / "other.csv"), memory(0.5))


@pytest.mark.parametrize("tool", [pytest.param("pandas", marks=pytest.mark.needs("polars", "pandas")), "polars"])
def test_what_other_tools_write_is_read(tool: str, tmp_path: Path) -> None:
    """Numbers, truth values and missing ones are what these tools have, however many rows there are."""
    rows = 100_000
    columns = {
        "a.1": np.arange(rows) * 0.5,
        "a.0": np.arange(rows),
        "done": np.arange(rows) % 3 == 0,
        "gap": np.where(np.arange(rows) == rows - 1, np.nan, np.arange(rows)),
        "large": np.full(rows, -(1 << 62)),
    }
    if tool == "pandas":
        import pandas as pd

        pd.DataFrame(columns).to_csv(tmp_path / "x.csv", index=False)
    else:
        import polars as pl

        pl.DataFrame(columns).write_csv(tmp_path / "x.csv")
    found = keepfast.read_memory(tmp_path / "x.csv").tensors
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        "a": np.float64,
        "done": np.bool,
        "gap": np.float64,
        "large": np.int64,
    }
    np.testing.assert_array_equal(found["a"][:, 0], np.stack([columns["a.0"], columns["a.1"]], axis=1))
    for name in ("done", "gap", "large"):
        np.testing.assert_array_equal(found[name][:, 0, 0], columns[name])


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("a,b\n1,x\n", InvalidValue, "the column `b` holds text, 'x' in line 2"),
        ("a,b\n1\n", CorruptMemory, "line 2 has 1 cells where 2 belong"),
        ("a,a\n1,2\n", CorruptMemory, "two columns are called `a`"),
        ("a\ntrue\n1\n", InvalidValue, "holds text, 'true' in line 2"),
        ("a\n\0\n", CorruptMemory, "it is no text"),
        ("", CorruptMemory, "it is empty"),
        ("a\n1_0\n", InvalidValue, "'1_0' in line 2"),
    ],
)
def test_what_is_no_memory_is_said_to_be_none(text: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    """Words are no numbers; the line and the column are named."""
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(error) as raised:
        keepfast.read_memory(tmp_path / "x.csv")
    assert said in str(raised.value)


def test_spreadsheets_have_their_own_line_ends_and_quotes(tmp_path: Path) -> None:
    """A mark before the text, quoted names and numbers, lines that end as on Windows, and none behind the last."""
    (tmp_path / "x.csv").write_bytes(b'\xef\xbb\xbf"a, b","c"\r\n"1",2.5\r\n\r\n3,')
    found = keepfast.read_memory(tmp_path / "x.csv").tensors
    assert found["a, b"].reshape(-1).tolist() == [1, 3]
    np.testing.assert_array_equal(found["c"].reshape(-1), [2.5, np.nan])
