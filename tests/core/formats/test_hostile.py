"""What a file asks for is bounded by its own size, whatever it says."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from keepfast.formats.checkpoints.pt import PtStore
from keepfast.formats.memories.npz import NpzExporter
from tests.hostile import read_all, refused
from tests.hostile.making import archive, npy, safetensors, tensor, text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")

CONJUGATE, NEGATIVE = (b"}" + text(bit) + b"\x88s" for bit in ("conj", "neg"))


def write_npz(path: Path, kind: int, **records: bytes) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, content in records.items():
            file.writestr(f"{name}.npy", content)
    return path


def sharing(path: Path) -> Path:
    """Write an archive whose directory names one record many times over, each under a name of its own."""
    write_npz(path, zipfile.ZIP_STORED, a0000=npy((1 << 22,), bytes(1 << 22)))
    with zipfile.ZipFile(path, "a") as file:
        (first,) = file.infolist()
        for index in range(1, 500):
            info = zipfile.ZipInfo(f"a{index:04}.npy")
            info.header_offset, info.CRC = first.header_offset, first.CRC
            info.file_size = info.compress_size = first.file_size
            file.filelist.append(info)
            file.NameToInfo[info.filename] = info
        file._didModify = True
    return path


def test_nothing_grows_unseen_where_a_zip_says_so(tmp_path: Path) -> None:
    """Compressed records, records that share their bytes, and a record that is longer than the file says."""
    zeros = {"data/0": bytes(1 << 27)}
    large = npy((1, 1, 1 << 27), bytes(1 << 27))
    files = [
        (
            "checkpoint",
            archive(tmp_path / "bomb.pt", tensor((1,), (1,), numel=1 << 25) + b".", zeros, zipfile.ZIP_DEFLATED),
        ),
        ("memory", archive(tmp_path / "bomb_memory.pt", b"}.", zeros, zipfile.ZIP_DEFLATED)),
        ("memory", write_npz(tmp_path / "bomb.npz", zipfile.ZIP_DEFLATED, x=large)),
        ("memory", write_npz(tmp_path / "bzip.npz", zipfile.ZIP_BZIP2, x=npy((1, 1, 9), bytes(9)))),
        ("memory", write_npz(tmp_path / "lzma.npz", zipfile.ZIP_LZMA, x=npy((1, 1, 9), bytes(9)))),
        ("memory", sharing(tmp_path / "sharing.npz")),
    ]
    assert refused(read_all(files)) == {}


def test_arrays_that_numpy_compressed_are_read(tmp_path: Path) -> None:
    """As long as they are no larger than a file of that size may be; their damage is noticed."""
    values = np.arange(6000, dtype=np.float32).reshape(3000, 2, 1)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=values)
    assert NpzExporter().load(path).tensors["x"].tolist() == values.tolist()
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    assert list(refused(read_all([("memory", path)]))) == []


def test_what_strides_make_of_one_number_is_not_made(tmp_path: Path) -> None:
    """A million million elements over four bytes are four bytes, also where those hold their negatives."""
    path = archive(
        tmp_path / "x.pt", tensor((1 << 40,), (0,), bits=NEGATIVE) + b".", {"data/0": np.float32(3).tobytes()}
    )
    assert read_all([("checkpoint", path)]) == {path: "value"}
    loaded = PtStore().load(path).state
    assert (loaded.shape, loaded.strides, float(loaded[1 << 39])) == ((1 << 40,), (0,), -3.0)
    many = b"(" + b"".join(tensor((1 << 20,), (1,), numel=1 << 20, bits=NEGATIVE) for _ in range(500)) + b"t."
    path = archive(tmp_path / "y.pt", many, {"data/0": bytes(1 << 22)})
    assert read_all([("checkpoint", path)]) == {path: "value"}


def test_rows_of_nothing_are_counted(tmp_path: Path) -> None:
    """An array may have no numbers, but not a million million rows of them."""
    shape = (1 << 40, 0)
    told = {"x": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]}}
    memory = {"x": {"dtype": "F32", "shape": [1 << 40, 1, 0], "data_offsets": [0, 0]}}
    wide = {"x": {"dtype": "F32", "shape": [1 << 25, 1, 0], "data_offsets": [0, 0]}}
    files = [
        ("checkpoint", archive(tmp_path / "x.pt", tensor(shape, (0, 1), numel=0) + b".", {"data/0": b""})),
        ("checkpoint", safetensors(tmp_path / "x.safetensors", told)),
        ("memory", safetensors(tmp_path / "memory.safetensors", memory)),
        ("memory", safetensors(tmp_path / "wide.safetensors", wide)),
        ("memory", write_npz(tmp_path / "x.npz", zipfile.ZIP_STORED, x=npy((1 << 40, 1, 0)))),
    ]
    assert refused(read_all(files)) == {}
    few = archive(tmp_path / "few.pt", tensor((0, 1 << 20, 512), (1, 1, 1), numel=0) + b".", {"data/0": b""})
    assert PtStore().load(few).state.shape == (0, 1 << 20, 512)


def nested(key: str, depth: int) -> bytes:
    """Return a pickle of dicts in each other, all under one key, with a number in the last."""
    return b"}" + text(key) + b"q\0" + b"}h\0" * (depth - 1) + b"K\1" + b"s" * depth + b"."


def test_paths_are_made_when_they_are_asked_for(tmp_path: Path) -> None:
    """Dicts in each other under one long key are read; where their paths would fill the memory, they are refused."""
    path = archive(tmp_path / "deep.pt", nested("k" * (1 << 12), 100))
    assert read_all([("checkpoint", path)]) == {path: "value"}
    longer = archive(tmp_path / "deeper.pt", nested("k" * (1 << 20), 400))
    (became,) = read_all([("checkpoint", longer)]).values()
    assert "the paths of its entries are longer than a file of this size may make them" in became
    told = b'{"__metadata__":{},"' + b"k" * (1 << 20) + b'":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
    flat = safetensors(tmp_path / "flat.safetensors", told, bytes(4))
    assert read_all([("checkpoint", flat)]) == {flat: "value"}


@pytest.mark.needs("polars")
def test_no_disk_is_taken_for_rows_that_are_not_there(tmp_path: Path) -> None:
    """The sizes that a header tells are compared with the lines of a csv, and with the rows of a table."""
    from keepfast.formats.memories.csv.exporter import CsvExporter
    from keepfast.interfaces.memory_exporter import MemorySnapshot
    from tests.hostile.making import csv_with

    values = {"x": np.arange(8, dtype=np.float32).reshape(4, 2, 1)}
    files = []
    for name, old, new in [
        ("rows", b'"memory_size":4', b'"memory_size":%d' % (1 << 62)),
        ("envs", b'"num_envs":2', b'"num_envs":%d' % (1 << 62)),
        ("some", b'"memory_size":4', b'"memory_size":300000'),
        ("size", b'"size":[1]', b'"size":[%d]' % (1 << 62)),
        ("wide", b'"size":[1]', b'"size":[%d]' % (1 << 27)),
        ("none", b'"size":[1]', b'"size":[0,%d]' % (1 << 62)),
    ]:
        CsvExporter().save(MemorySnapshot(values, 0, 0, filled=True), path := tmp_path / f"{name}.csv")
        files.append(("memory", csv_with(path, old, new)))
    assert refused(read_all(files, memory=1 << 28)) == {}


@pytest.mark.needs("polars", "pyarrow")
def test_a_table_has_the_rows_that_its_header_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before there is any room made for them."""
    from keepfast.formats.memories import parquet
    from keepfast.formats.memories.header import header_text
    from keepfast.interfaces.memory_exporter import MemorySnapshot

    snapshot = MemorySnapshot({"x": np.arange(8, dtype=np.float32).reshape(4, 2, 1)}, 0, 0, filled=True)
    told = json.loads(header_text(snapshot))
    files = []
    for name, changed in [
        ("rows", {"memory_size": 1 << 21}),
        ("sizes", {"memory_size": 1 << 62}),
        ("wide", {"tensors": {"x": {"dtype": "float32", "size": [1 << 30]}}}),
        ("none", {"memory_size": 1 << 40, "tensors": {"x": {"dtype": "float32", "size": [0]}}}),
    ]:
        monkeypatch.setattr(
            parquet, "header_text", lambda _snapshot, changed=changed: json.dumps(told | changed).encode()
        )
        parquet.ParquetExporter().save(snapshot, path := tmp_path / f"{name}.parquet")
        files.append(("memory", path))
    assert refused(read_all(files, memory=1 << 27)) == {}


@pytest.mark.needs("polars")
@pytest.mark.parametrize("cell", ["1e99999999999999999999999999", "0e99999999999999999999999999", "1e-1" + "0" * 30])
def test_an_exponent_of_any_length_is_a_number_or_none(cell: str, tmp_path: Path) -> None:
    """Far beyond what decimals can hold, it rounds to nothing or to infinity, however the text is read."""
    from keepfast.formats.memories.csv import cells

    column = cells.Column("x", np.dtype(np.float32), 1)
    (found,) = cells.tables(cell.encode() + b"\n", [column])
    assert float(found[0, 0]) == (np.inf if cell.startswith("1e9") else 0.0)


def test_an_entry_has_one_name(tmp_path: Path) -> None:
    """Of two of one name in a header each reader would take the one it likes, as others refuse it."""
    entry = '"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f"{{{entry},{entry}}}".encode()
    deeper = b'{"x":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}'
    files = [
        ("checkpoint", safetensors(tmp_path / f"{name}.safetensors", told, bytes(4)))
        for name, told in (("twice", header), ("deeper", deeper))
    ]
    found = read_all(files)
    assert refused(found) == {}
    assert all("has a key twice" in what for what in found.values())


@pytest.mark.needs("msgpack")
def test_containers_in_each_other_are_read_as_deep_as_they_can_be_gone_through(tmp_path: Path) -> None:
    """Deeper ones are refused by the file, not by whoever goes through what was read of it."""
    files = []
    for depth in (300, 700, 900, 1500, 5000):
        lists = b"]" * depth + b"K\1" + b"a" * depth
        whole = b"\x80\x02}(" + text("n") + lists + text("w") + tensor((1,), (1,)) + b"u."
        older, packed = b"\x80\x04}" + text("n") + lists + b"s.", b"\x81\xa1n" + b"\x91" * depth + b"\xc0"
        archive(tmp_path / f"{depth}.pt", whole)
        (tmp_path / f"{depth}.pickle").write_bytes(older)
        (tmp_path / f"{depth}.msgpack").write_bytes(packed)
        for name in ("pt", "pickle", "msgpack"):
            files += [(kind, tmp_path / f"{depth}.{name}") for kind in ("checkpoint", "foreign")]
    found = read_all(files[::2]) | read_all(files[1::2])
    assert set(refused(found).values()) <= {"value"}
    assert not any("value" in what for path, what in found.items() if int(path.stem) > 1000)
    assert read_all([("checkpoint", tmp_path / "300.pickle")]) == {tmp_path / "300.pickle": "value"}
