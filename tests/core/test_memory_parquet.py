"""Memories as Parquet."""

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from holdfast.codec import dtype_of
from holdfast.memory import MemorySnapshot
from holdfast.memory_formats.parquet import ParquetExporter
from holdfast.testing.memory_exporter import MemoryExporterContract, assert_same


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
    polars = pytest.importorskip("polars")
    ParquetExporter().save(_counting(), tmp_path / "memory.parquet")
    table = polars.read_parquet(tmp_path / "memory.parquet")
    assert table.columns == ["timestep", "environment", "rewards", "images"]
    assert table.select("timestep", "environment", "rewards").rows() == [
        (2, 0, 0.0), (2, 1, 0.0), (0, 0, 1.0), (0, 1, 1.0), (1, 0, 2.0), (1, 1, 2.0),
    ]  # fmt: skip
    assert table["images"].to_list()[1] == [4, 5, 6, 7]


def test_only_written_samples_are_rows(tmp_path):
    """A half-filled memory gives only the samples that it holds."""
    import pyarrow.parquet

    ParquetExporter().save(_counting(memory_index=2, filled=False), tmp_path / "memory.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "memory.parquet").num_rows == 4


def test_dtypes_that_arrow_lacks_come_back(tmp_path):
    """bfloat16 and float8 come back bit for bit."""
    pytest.importorskip("ml_dtypes")
    bits = np.arange(1 << 8, dtype=np.uint8).reshape(64, 2, 2)
    tensors = {
        "half": bits.astype(np.uint16).view(dtype_of("bfloat16")) * 1,
        "quarter": bits.view(dtype_of("float8_e4m3fn")),
    }
    snapshot = MemorySnapshot(tensors, 0, 0, filled=True)
    ParquetExporter().save(snapshot, tmp_path / "memory.parquet")
    assert_same(ParquetExporter().load(tmp_path / "memory.parquet"), snapshot)
