"""Memories as npz: what NumPy finds in them, and what we take from those of others."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

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
