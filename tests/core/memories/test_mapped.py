"""Memories that are memory-mapped notice that their file was cut off or written to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.errors import CorruptMemory
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.fitting import matched
from keepfast.plugins.formats import format_of

ROWS = 1 << 19
"""As many rows as make a tensor worth mapping."""

FORMATS = ("pt", "npz", "safetensors")


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a memory whose tensor is mapped when it is read, as those of 64 MB are."""
    monkeypatch.setattr("keepfast.formats.files.sealed._WORTH_MAPPING", 1 << 20)
    path = tmp_path / f"m.{request.param}"
    values = np.arange(ROWS, dtype=np.float32).reshape(ROWS, 1, 1)
    format_of("memory format", path).save(MemorySnapshot({"x": values}, 0, 0, filled=True), path)
    return path


def cut(path: Path) -> None:
    os.truncate(path, 4096)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"other" * 1000)


ACCESSES: dict[str, Callable[[MemorySnapshot, Path], Any]] = {
    "a tensor": lambda snapshot, _: snapshot["x"].sum(),
    "one of all": lambda snapshot, _: snapshot.tensors["x"].sum(),
    "all of them": lambda snapshot, _: dict(snapshot.tensors),
    "their values": lambda snapshot, _: [tensor.sum() for tensor in snapshot.tensors.values()],
    "in the order of time": lambda snapshot, _: snapshot.chronological(),
    "in blocks": lambda snapshot, _: list(snapshot.chronological_blocks()),
    "written": lambda snapshot, path: format_of("memory format", path).save(snapshot, path.with_stem("other")),
    "loaded": lambda snapshot, _: matched(snapshot, {}, str, ""),
    "asked for": lambda snapshot, _: snapshot.require_unchanged(),
}


@pytest.mark.parametrize("change", [cut, grown, overwritten])
def test_a_file_that_changes_under_a_mapped_memory_is_noticed(path: Path, change: Callable[[Path], None]) -> None:
    """By every access, before there is one to memory that is gone, which would end the process."""
    snapshot = keepfast.read_memory(path)
    assert float(snapshot["x"][5, 0, 0]) == 5
    change(path)
    for name in ACCESSES:
        with pytest.raises(CorruptMemory, match=r"was memory-mapped from it; read the memory again"):
            ACCESSES[name](snapshot, path)
    assert (len(snapshot), snapshot.memory_size, list(snapshot)) == (ROWS, ROWS, ["x"])
    assert "x: float32" in repr(snapshot)


def test_a_file_that_is_replaced_or_removed_leaves_a_mapped_memory_whole(path: Path) -> None:
    """As Keepfast replaces files, and as retention removes them: what was read is still there."""
    snapshot = keepfast.read_memory(path)
    other = MemorySnapshot({"x": np.zeros((ROWS, 1, 1), np.float32)}, 0, 0, filled=True)
    format_of("memory format", path).save(other, path)
    assert float(snapshot.chronological()["x"][-1, 0, 0]) == ROWS - 1
    path.unlink()
    assert float(snapshot["x"][-1, 0, 0]) == ROWS - 1


def test_what_is_changed_in_a_mapped_memory_stays_in_memory(path: Path) -> None:
    """The file is as it was, and the memory is still taken for whole."""
    content = path.read_bytes()
    snapshot = keepfast.read_memory(path)
    snapshot["x"][7] = -1
    assert float(snapshot["x"][7, 0, 0]) == -1
    assert path.read_bytes() == content
