"""Memories as npz: what NumPy finds in them, and what we take from those of others."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

import keepfast
from keepfast.errors import CorruptMemory
from keepfast.formats.memories.npz import NpzExporter
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.testing.memory_exporter import assert_same

VALUES = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def saved(path: Path, **metadata: object) -> MemorySnapshot:
    snapshot = MemorySnapshot({"states": VALUES, "keepfast.json": VALUES[..., :1]}, 1, 1, False, metadata)
    NpzExporter().save(snapshot, path)
    return snapshot


def test_the_names_are_those_of_the_tensors(tmp_path: Path) -> None:
    """Code that goes over `numpy.load(path).files` meets the tensors, all of the memory's shape, and nothing else."""
    snapshot = saved(tmp_path / "memory.npz", seams=list(range(30_000)))  # longer than a zip's comment may be
    with np.load(tmp_path / "memory.npz", allow_pickle=False) as arrays:
        assert arrays.files == list(snapshot.tensors)
        assert {name: array.tolist() for name, array in arrays.items()} == {
            name: tensor.tolist() for name, tensor in snapshot.tensors.items()
        }
    with zipfile.ZipFile(tmp_path / "memory.npz") as archive:
        assert archive.namelist() == [f"{name}.npy" for name in snapshot.tensors]
        assert archive.testzip() is None
    assert_same(NpzExporter().load(tmp_path / "memory.npz"), snapshot)


def test_a_memory_without_tensors_comes_back(tmp_path: Path) -> None:
    """An archive without names is one nevertheless, and its metadata are there."""
    snapshot = MemorySnapshot({}, 0, 0, False, {"agent": "PPO"})
    NpzExporter().save(snapshot, tmp_path / "memory.npz")
    assert_same(NpzExporter().load(tmp_path / "memory.npz"), snapshot)


def test_what_stands_beside_the_tensors_is_sealed(tmp_path: Path) -> None:
    """A changed position or metadata is damage, and so is a seal that was cut off."""
    path = tmp_path / "memory.npz"
    saved(path, agent="PPO")
    content = path.read_bytes()
    seal = content.rindex(b"keepfast seal")
    bare = content[: seal - 2] + b"\0\0"  # an archive without a comment, as every reader of zips has it
    assert zipfile.ZipFile(io.BytesIO(bare)).testzip() is None
    for damaged in (content.replace(b'"PPO"', b'"SAC"'), content.replace(b'"env_index":1', b'"env_index":0'), bare):
        assert damaged != content
        path.write_bytes(damaged)
        with pytest.raises(CorruptMemory, match=r"memory\.npz` is damaged"):
            NpzExporter().load(path)


def test_what_numpy_wrote_anew_is_read_as_of_another_tool(tmp_path: Path) -> None:
    """A file whose arrays NumPy has read and written again is no damaged one: it holds a full memory."""
    path = tmp_path / "memory.npz"
    saved(path)
    with np.load(path) as arrays:
        changed = {name: arrays[name] + 1 for name in arrays.files}
    np.savez(path, **changed)
    found = NpzExporter().load(path)
    assert (found["states"].tolist(), found.filled) == ((VALUES + 1).tolist(), True)


def test_what_a_zip_tool_wrote_anew_is_read_as_of_another_tool(tmp_path: Path) -> None:
    """Neither an array that was added nor records that were packed again are damage, whatever is left of ours."""
    path = tmp_path / "memory.npz"
    for keeps_comment in (True, False):
        saved(path)
        if keeps_comment:
            with zipfile.ZipFile(path, "a") as archive, archive.open("rewards.npy", "w") as record:
                np.save(record, VALUES[..., :1])
        else:
            with zipfile.ZipFile(path) as archive:
                records = {name: archive.read(name) for name in archive.namelist()}
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in records.items():
                    archive.writestr(name, content)
        with np.load(path) as arrays:
            theirs = {name: array.tolist() for name, array in arrays.items()}
        telling = pytest.warns(keepfast.KeepfastWarning, match="was written anew by another tool")
        with telling if keeps_comment else contextlib.nullcontext():
            found = NpzExporter().load(path)
        assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == theirs


def record_of(array: object, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version)
    return file.getvalue()


PLAIN = record_of(VALUES)
RECORDS = {
    "an array": PLAIN,
    "an array of the second version": record_of(VALUES, (2, 0)),
    "an array of the third version": record_of(VALUES, (3, 0)),
    "an array in Fortran order": record_of(np.asfortranarray(VALUES)),
    "an array in another byte order": record_of(VALUES.astype(">f4")),
    "a version of tomorrow": PLAIN[:6] + b"\4\0" + PLAIN[8:],
    "no magic": b"\x92" + PLAIN[1:],
    "a header of no literal": PLAIN.replace(b"False", b"Fals3"),
    "a header with a call": PLAIN.replace(b"'fortran_order': False", b"'fortran_order': f()  "),
    "a key less": PLAIN.replace(b"'fortran_order'", b"'fortran_0rder'"),
    "a shape that is none": PLAIN.replace(b"(3, 2, 2)", b"(3, 'a',)"),
    "an order that is a number": PLAIN.replace(b"False", b"0    "),
    "a dtype that is none": PLAIN.replace(b"<f4", b"<q4"),
    "fewer bytes than told": PLAIN[:-1],
    "objects": record_of(np.array([[[{}]]], object)),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_judged_as_numpy_judges_it(tmp_path: Path, name: str) -> None:
    """What NumPy refuses is refused, and what it takes is taken."""
    path = tmp_path / "memory.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", RECORDS[name])
    theirs = None
    with contextlib.suppress(ValueError, OSError), np.load(path, allow_pickle=False) as arrays:
        theirs = arrays["x"] if isinstance(arrays["x"], np.ndarray) else None  # the bytes of what is no array
    if theirs is None:
        with pytest.raises(CorruptMemory):
            NpzExporter().load(path)
    else:
        assert NpzExporter().load(path).tensors["x"].tolist() == theirs.tolist()
    assert (theirs is None) is not name.startswith("an array")
