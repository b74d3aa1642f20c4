"""Memories as Parquet."""

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow.parquet

from keepfast.codec import dtype_of
from keepfast.errors import CorruptMemory
from keepfast.formats.memories import parquet
from keepfast.formats.memories.header import header_text
from keepfast.formats.memories.parquet import ParquetExporter
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.testing.memory_exporter import DTYPES, MemoryExporterContract, assert_same

pytestmark = pytest.mark.needs("pyarrow", "polars", "pandas", "duckdb", "ml_dtypes")


class TestParquet(MemoryExporterContract):
    @pytest.fixture
    def exporter(self):
        return ParquetExporter()


def _counting(memory_index=1, filled=True):
    rows = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((3, 2, 1), np.float32)
    images = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 2, 2)
    return MemorySnapshot({"rewards": rows, "images": images}, memory_index, 0, filled)


def test_polars_reads_a_row_for_each_sample(tmp_path):
    """polars sees the age and environment of each sample, scalars as numbers and images as arrays."""
    import polars as pl

    ParquetExporter().save(_counting(), tmp_path / "memory.parquet")
    table = pl.read_parquet(tmp_path / "memory.parquet")
    assert table.columns == ["timestep", "environment", "rewards", "images"]
    assert table.select("timestep", "environment", "rewards").rows() == [
        (2, 0, 0.0), (2, 1, 0.0), (0, 0, 1.0), (0, 1, 1.0), (1, 0, 2.0), (1, 1, 2.0),
    ]  # fmt: skip
    assert table["images"].to_list()[1] == [4, 5, 6, 7]


def test_pandas_and_duckdb_read_every_dtype(tmp_path):
    """Every dtype that a memory has is a column for pandas and for duckdb, floats of 16 bits included."""
    import duckdb
    import pandas as pd

    tensors = {name: np.arange(6).reshape(3, 2, 1).astype(name) for name in DTYPES}
    ParquetExporter().save(MemorySnapshot(tensors, 0, 0, filled=True), tmp_path / "memory.parquet")
    table = pd.read_parquet(tmp_path / "memory.parquet")
    rows = duckdb.sql(f"SELECT * FROM '{tmp_path / 'memory.parquet'}'").fetchall()
    assert list(table.columns) == ["timestep", "environment", *DTYPES]
    for column, name in enumerate(DTYPES, start=2):
        expected = tensors[name].reshape(-1).tolist()
        assert table[name].tolist() == expected
        assert [row[column] for row in rows] == expected


def test_tensors_may_be_named_as_the_columns_of_places(tmp_path):
    """A tensor called as one of Parquet's own columns has another title there, and its name when it comes back."""
    tensors = {
        name: np.full((3, 2, 1), value, np.float32)
        for value, name in enumerate(("environment", "timestep_", "timestep"))
    }
    snapshot = MemorySnapshot(tensors, 0, 0, filled=True)
    ParquetExporter().save(snapshot, tmp_path / "memory.parquet")
    assert pyarrow.parquet.read_schema(tmp_path / "memory.parquet").names == [
        "timestep", "environment", "environment_", "timestep_", "timestep__",
    ]  # fmt: skip
    assert_same(ParquetExporter().load(tmp_path / "memory.parquet"), snapshot)


def test_a_table_of_fewer_rows_than_its_header_tells_is_refused(tmp_path, monkeypatch):
    """Rows that the header promises and the table lacks are not taken for zeros, whatever the digest says."""
    whole = header_text
    monkeypatch.setattr(parquet, "header_text", lambda _: whole(_counting()))
    ParquetExporter().save(_counting(memory_index=2, filled=False), tmp_path / "memory.parquet")
    with pytest.raises(CorruptMemory, match="has 4 rows where 6 belong"):
        ParquetExporter().load(tmp_path / "memory.parquet")


def test_only_written_samples_are_rows(tmp_path):
    """A half-filled memory gives only the samples that it holds."""
    ParquetExporter().save(_counting(memory_index=2, filled=False), tmp_path / "memory.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "memory.parquet").num_rows == 4


@pytest.mark.parametrize("filled", [False, True])
def test_the_ages_in_a_row_that_is_half_written(tmp_path, filled):
    """In a filled memory the environments that have written the row already are one sample further than the others."""
    tensors = {"rewards": np.zeros((3, 2, 1), np.float32)}
    ParquetExporter().save(MemorySnapshot(tensors, 1, 1, filled), tmp_path / "memory.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "memory.parquet", columns=["timestep", "environment"])
    half = [(0, 0), (0, 1), (1, 0)]
    whole = [(1, 0), (2, 1), (2, 0), (0, 1), (0, 0), (1, 1)]
    assert list(zip(*table.to_pydict().values(), strict=True)) == (whole if filled else half)


def test_a_memory_of_several_groups_of_rows_comes_back(tmp_path):
    """What is too large to be in memory at once is written in groups, which need not end where a row of it does."""
    images = np.repeat(np.arange(21, dtype=np.float32), 1 << 18).reshape(7, 3, 1 << 18)
    snapshot = MemorySnapshot({"images": images}, 0, 0, filled=True)
    ParquetExporter().save(snapshot, tmp_path / "memory.parquet")
    file = pyarrow.parquet.ParquetFile(tmp_path / "memory.parquet")
    assert file.num_row_groups > 1
    assert file.metadata.row_group(0).num_rows % 3
    assert file.read(columns=["environment"])["environment"].to_pylist() == [0, 1, 2] * 7
    assert_same(ParquetExporter().load(tmp_path / "memory.parquet"), snapshot)


def test_each_group_of_rows_goes_behind_the_one_before(tmp_path, monkeypatch):
    """However many there are, and though the last is shorter."""
    monkeypatch.setattr(parquet, "_GROUP", 64)
    snapshot = MemorySnapshot({"x": np.arange(70, dtype=np.float32).reshape(35, 2, 1)}, 0, 0, filled=True)
    ParquetExporter().save(snapshot, tmp_path / "memory.parquet")
    assert pyarrow.parquet.ParquetFile(tmp_path / "memory.parquet").num_row_groups == 5
    assert_same(ParquetExporter().load(tmp_path / "memory.parquet"), snapshot)


def test_dtypes_that_arrow_lacks_come_back(tmp_path):
    """bfloat16 and float8 come back bit for bit."""
    bits = np.arange(1 << 8, dtype=np.uint8).reshape(64, 2, 2)
    tensors = {
        "half": bits.astype(np.uint16).view(dtype_of("bfloat16")) * 1,
        "quarter": bits.view(dtype_of("float8_e4m3fn")),
    }
    snapshot = MemorySnapshot(tensors, 0, 0, filled=True)
    ParquetExporter().save(snapshot, tmp_path / "memory.parquet")
    assert_same(ParquetExporter().load(tmp_path / "memory.parquet"), snapshot)
