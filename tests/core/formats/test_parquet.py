"""Memories as Parquet."""

import zlib
from datetime import datetime

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from keepfast.codec import dtype_of  # noqa: E402
from keepfast.errors import CorruptMemory, Unreadable  # noqa: E402
from keepfast.formats.memories import parquet  # noqa: E402
from keepfast.formats.memories.header import header_text  # noqa: E402
from keepfast.formats.memories.parquet import ParquetExporter  # noqa: E402
from keepfast.interfaces.memory_exporter import MemorySnapshot  # noqa: E402
from keepfast.testing.memory_exporter import DTYPES, MemoryExporterContract, assert_same  # noqa: E402

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
    assert pq.read_schema(tmp_path / "memory.parquet").names == [
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
    assert pq.read_table(tmp_path / "memory.parquet").num_rows == 4


@pytest.mark.parametrize("filled", [False, True])
def test_the_ages_in_a_row_that_is_half_written(tmp_path, filled):
    """In a filled memory the environments that have written the row already are one sample further than the others."""
    tensors = {"rewards": np.zeros((3, 2, 1), np.float32)}
    ParquetExporter().save(MemorySnapshot(tensors, 1, 1, filled), tmp_path / "memory.parquet")
    table = pq.read_table(tmp_path / "memory.parquet", columns=["timestep", "environment"])
    half = [(0, 0), (0, 1), (1, 0)]
    whole = [(1, 0), (2, 1), (2, 0), (0, 1), (0, 0), (1, 1)]
    assert list(zip(*table.to_pydict().values(), strict=True)) == (whole if filled else half)


def test_a_memory_of_several_groups_of_rows_comes_back(tmp_path):
    """What is too large to be in memory at once is written in groups, which need not end where a row of it does."""
    images = np.repeat(np.arange(21, dtype=np.float32), 1 << 18).reshape(7, 3, 1 << 18)
    snapshot = MemorySnapshot({"images": images}, 0, 0, filled=True)
    ParquetExporter().save(snapshot, tmp_path / "memory.parquet")
    file = pq.ParquetFile(tmp_path / "memory.parquet")
    assert file.num_row_groups > 1
    assert file.metadata.row_group(0).num_rows % 3
    assert file.read(columns=["environment"])["environment"].to_pylist() == [0, 1, 2] * 7
    assert_same(ParquetExporter().load(tmp_path / "memory.parquet"), snapshot)


def test_each_group_of_rows_goes_behind_the_one_before(tmp_path, monkeypatch):
    """However many there are, and though the last is shorter."""
    monkeypatch.setattr(parquet, "_GROUP", 64)
    snapshot = MemorySnapshot({"x": np.arange(70, dtype=np.float32).reshape(35, 2, 1)}, 0, 0, filled=True)
    ParquetExporter().save(snapshot, tmp_path / "memory.parquet")
    assert pq.ParquetFile(tmp_path / "memory.parquet").num_row_groups == 5
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


def _snapshot():
    values = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    flags = values[..., :1] > 9
    return MemorySnapshot({"states": values, "ended": flags}, 1, 0, True, {"agent": "PPO"})


def test_nothing_of_ours_is_in_a_table(tmp_path):
    """No reader finds a key or a column beside those of the places and of the tensors."""
    path = tmp_path / "memory.parquet"
    ParquetExporter().save(_snapshot(), path)
    table = pq.read_table(path)
    assert (table.schema.metadata, table.column_names) == (None, ["timestep", "environment", "states", "ended"])
    assert set(pq.ParquetFile(path).metadata.metadata) == {b"ARROW:schema"}
    assert_same(ParquetExporter().load(path), _snapshot())


def _by_pyarrow(path):
    pq.write_table(pq.read_table(path), path)


def _by_pandas(path):
    import pandas as pd

    pd.read_parquet(path).to_parquet(path)


def _by_polars(path):
    import polars as pl

    pl.read_parquet(path).write_parquet(path)


def _by_duckdb(path):
    import duckdb

    duckdb.sql(f"copy (select * from '{path}' order by environment) to '{path}.new' (format parquet)")
    path.with_name(f"{path.name}.new").replace(path)


@pytest.mark.parametrize("change", [_by_pyarrow, _by_pandas, _by_polars, _by_duckdb])
def test_what_another_tool_wrote_anew_is_read(tmp_path, change):
    """As that tool's: a full memory, its samples where its columns of places say, from the oldest on."""
    path = tmp_path / "memory.parquet"
    ParquetExporter().save(_snapshot(), path)
    change(path)
    found = ParquetExporter().load(path)
    assert (found.filled, found.memory_index, found.metadata) == (True, 0, {})
    ours = _snapshot().chronological()
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        name: tensor.tolist() for name, tensor in ours.items()
    }


def test_a_table_of_another_tool_is_a_memory_of_one_environment(tmp_path):
    """Of numbers, truth values and lists that are all as long; what is missing is NaN."""
    columns = {
        "a": pa.array([1, 2, 3], pa.int16()),
        "b": pa.array([0.5, None, 1.5]),
        "c": pa.array([1, None, 3]),
        "d": pa.array([True, False, True]),
        "e": pa.array([True, None, False]),
        "f": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int8())),
        "g": pa.array([[1.0], [2.0], [3.0]], pa.list_(pa.float32(), 1)),
        "h": pa.array([1, 2, 2**64 - 1], pa.uint64()),
    }
    for group in (1, 3):
        pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=group)
        found = ParquetExporter().load(tmp_path / "x.parquet")
        assert (found.memory_size, found.num_envs, found.filled) == (3, 1, True)
        assert {name: str(tensor.dtype) for name, tensor in found.tensors.items()} == {
            "a": "int16", "b": "float64", "d": "bool", "f": "int8", "g": "float32", "h": "uint64",
            "c": "float64", "e": "float64",
        }  # fmt: skip
        assert found["f"].tolist() == [[[1, 2]], [[3, 4]], [[5, 6]]]
        np.testing.assert_array_equal(found["c"][:, 0, 0], [1, np.nan, 3])
        np.testing.assert_array_equal(found["e"][:, 0, 0], [1, np.nan, 0])
        assert found["h"][:, 0, 0].tolist() == [1, 2, 2**64 - 1]


@pytest.mark.parametrize(
    "column",
    [
        ["a", "b"],
        [b"a", b"b"],
        [[1], [1, 2]],
        [[1], None],
        [{"x": 1}, {"x": 2}],
        [datetime(2026, 1, 1)] * 2,
        [None] * 2,
    ],
    ids=str,
)
def test_a_table_of_what_is_no_number_is_no_damage(tmp_path, column):
    """It is whole, and Keepfast that has no tensors for it."""
    pq.write_table(pa.table({"x": column, "y": [1, 2]}), tmp_path / "x.parquet")
    with pytest.raises(Unreadable, match="the column `x`"):
        ParquetExporter().load(tmp_path / "x.parquet")


def test_a_word_of_ours_is_not_our_seal(tmp_path):
    """A key of the footer, a value, or a column that is called as ours is another tool's."""
    words = [{"keepfast": "x"}, {"keepfast.crc32": "x"}, {"x": "keepfast digest 00000000"}, {"x": "keepfast memory\n"}]
    for metadata in words:
        table = pa.table({"timestep": [5, 6]}).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "x.parquet")
        assert ParquetExporter().load(tmp_path / "x.parquet")["timestep"].tolist() == [[[5]], [[6]]]


def test_no_changed_mark_makes_a_file_another_tools(tmp_path):
    """Each byte between the columns and the footer, and of how the file ends, is noticed where it changes."""
    path = tmp_path / "x.parquet"
    ParquetExporter().save(_snapshot(), path)
    content = path.read_bytes()
    front, back = content.index(b"keepfast memory\n"), content.rindex(b"keepfast memory\n")
    for place in [*range(front, front + 16), *range(back - 8, back + 24), *range(len(content) - 8, len(content))]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CorruptMemory):
            ParquetExporter().load(path)


def test_a_file_of_the_layout_before_is_read(tmp_path, monkeypatch):
    """Whose footer told of it; its damage is noticed, and it is pyarrow's where pyarrow wrote it anew."""
    path, snapshot = tmp_path / "x.parquet", _snapshot()
    real = pq.ParquetWriter.close

    def close(writer):
        if writer.is_open:
            document = header_text(snapshot)
            writer.add_key_value_metadata({b"keepfast": document, b"keepfast.crc32": b"keepfast digest 00000000"})
        real(writer)

    monkeypatch.setattr(pq.ParquetWriter, "close", close)
    monkeypatch.setattr(parquet, "_write_document", lambda file, document: 0)
    monkeypatch.setattr(parquet, "_digest", lambda file, place: b"")
    ParquetExporter().save(snapshot, path)
    monkeypatch.undo()
    content = bytearray(path.read_bytes())
    place = content.rindex(b"keepfast digest ") + 16
    content[place : place + 8] = b"%08x" % zlib.crc32(content)
    path.write_bytes(content)
    assert_same(ParquetExporter().load(path), snapshot)
    for at in (place, place - 16, content.rindex(b"keepfast.crc32"), content.index(b'"agent"')):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(CorruptMemory):
            ParquetExporter().load(path)
    path.write_bytes(content)
    _by_pyarrow(path)
    assert ParquetExporter().load(path).metadata == {}


def test_no_table_takes_more_memory_than_its_size_allows(tmp_path):
    """Of a hundred million equal numbers in a few bytes is told that they are not read."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1 << 24, np.int8)), pa.array([0.5]))
    pq.write_table(pa.table({"x": column, "y": column}), tmp_path / "x.parquet", store_schema=False)
    with pytest.raises(Unreadable, match="bytes of memory"):
        ParquetExporter().load(tmp_path / "x.parquet")


def test_what_arrow_cannot_read_is_no_damage(tmp_path, monkeypatch):
    """A footer that is encrypted, and a compression that this Arrow was built without."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    path.write_bytes(path.read_bytes()[:-4] + b"PARE")
    with pytest.raises(Unreadable, match="its footer is encrypted"):
        ParquetExporter().load(path)
    pq.write_table(pa.table({"x": [1]}), path)

    def refuse(*_arguments):
        raise pa.ArrowNotImplementedError("Support for codec 'lzo' not built")

    monkeypatch.setattr(parquet, "foreign_tensors", refuse)
    with pytest.raises(Unreadable, match="codec 'lzo' not built"):
        ParquetExporter().load(path)


def test_a_table_of_any_number_of_columns_is_read(tmp_path):
    """Also where the name of one begins with that of another and a dot, and the two are not read together."""
    names = ["c0", *(f"b{each}" for each in range(600)), "c0.1", "c0.2"]
    pq.write_table(pa.table({name: [float(index), 2.0] for index, name in enumerate(names)}), tmp_path / "x.parquet")
    tensors = ParquetExporter().load(tmp_path / "x.parquet").tensors
    assert {name: values[0].item() for name, values in tensors.items()} == dict(zip(names, range(603), strict=True))
