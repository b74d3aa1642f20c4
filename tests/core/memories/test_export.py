"""An export names and writes the files of a memory, told by it or asked by hand."""

from __future__ import annotations

from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import keepfast
from keepfast._system.commit import sweep
from keepfast.errors import KeepfastWarning, UnknownPlugin
from keepfast.formats.memories.npz import NpzExporter
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.export import MemoryExport


class Numbered:
    """Returns snapshots that tell how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self) -> MemorySnapshot:
        self.taken += 1
        return MemorySnapshot({"x": np.full((2, 1), self.taken)}, 0, 0, filled=True)


def test_a_full_memory_gives_a_file_where_that_is_asked_for(tmp_path: Path) -> None:
    """No copy of the memory is made where it is not; cycles are counted either way, and files named by them."""
    export, snapshot = MemoryExport("npz", tmp_path), Numbered()
    export.filled(1, snapshot)
    assert snapshot.taken == 0
    export.active = True
    export.filled(2, snapshot)
    export.filled(3, snapshot)
    export.close()
    found = list(keepfast.iter_memories(tmp_path / "*"))
    assert [path.stem.rpartition("-")[2] for path, _ in found] == ["2", "3"]
    assert [int(written.tensors["x"][0, 0]) for _, written in found] == [1, 2]


def test_a_file_is_written_by_hand(tmp_path: Path) -> None:
    """At once, to another directory or in another format where that is said; the name is one that no file has."""
    export, snapshot = MemoryExport("npz", tmp_path / "a"), Numbered()
    paths = [export.save(snapshot), export.save(snapshot, tmp_path / "b", "pt")]
    assert [(path.parent.name, path.suffix) for path in paths] == [("a", ".npz"), ("b", ".pt")]
    assert [int(keepfast.read_memory(path).tensors["x"][0, 0]) for path in paths] == [1, 2]


def test_the_last_file_stays_until_the_next_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `keep=1`, a file that cannot be written costs none; once one is, the file before it goes."""
    export, snapshot = MemoryExport("npz", tmp_path, 1, active=True), Numbered()
    export.filled(1, snapshot)
    export.wait()

    def refuse(*_given: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(NpzExporter, "write", refuse)
        export.filled(2, snapshot)
        with pytest.warns(KeepfastWarning, match="the disk is full"):
            export.wait()
    assert kept(tmp_path) == [1]
    export.filled(3, snapshot)
    with pytest.warns(KeepfastWarning, match="1 of 3 memory exports"):
        export.close()
    assert kept(tmp_path) == [3]


def kept(directory: Path) -> list[int]:
    return [int(written.tensors["x"][0, 0]) for _, written in keepfast.iter_memories(directory / "*")]


def test_files_of_one_moment_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock may tell the same microsecond twice; no file replaces another."""

    class Still(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(2024, 11, 24, 12, 0, 0, 7, tz)

    monkeypatch.setattr("keepfast.memories.export.datetime", Still)
    export, snapshot = MemoryExport("npz", tmp_path), Numbered()
    assert export.save(snapshot) != export.save(snapshot)
    assert kept(tmp_path) == [1, 2]


def test_an_unknown_format_is_told_before_a_copy_is_made(tmp_path: Path) -> None:
    """As the copy of a large memory takes its time."""
    export, snapshot = MemoryExport("npz", tmp_path), Numbered()
    with pytest.raises(UnknownPlugin, match="unknown memory format `cvs`"):
        export.save(snapshot, format="cvs")
    assert snapshot.taken == 0


def test_a_start_while_another_sweeps_the_directory_is_none_the_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that a start tries the directory with may be taken for litter by another process that starts."""
    touch = Path.touch

    def swept(self: Path) -> None:
        touch(self)
        assert sweep(self.parent) == [self]

    monkeypatch.setattr(Path, "touch", swept)
    MemoryExport("npz", tmp_path).prepare()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_is_taken_at_construction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes its working directory exports to where it began, and `keep` counts the files there."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    export = MemoryExport("np", "memory", 1, active=True)
    export.prepare()
    snapshot = MemorySnapshot({"a": np.zeros((1, 1, 1), np.float32)}, 0, 0, filled=True)
    export.filled(1, lambda: snapshot)
    monkeypatch.chdir(tmp_path / "elsewhere")
    export.filled(2, lambda: snapshot)
    export.close()
    assert [path.name.partition("-2.")[2] for path in (tmp_path / "memory").iterdir()] == ["npz"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert MemoryExport("np", "~/memory").directory == tmp_path / "home" / "memory"


def test_whoever_asks_is_told_of_each_file_that_is_exported(numpy_memory: type[Any], tmp_path: Path) -> None:
    """Once it is complete, behind training, and each function once, however often it was named."""
    told: list[tuple[Path, bool]] = []
    memory = numpy_memory(2, export=True, export_format="np", export_directory=tmp_path)
    memory.create_tensor("states", size=2, dtype=np.float32)

    def note(path: Path) -> None:
        told.append((path, path.exists()))

    memory.when_exported(note)
    memory.when_exported(note)
    for _ in range(4):
        memory.add_samples(states=np.zeros((1, 2), np.float32))
    memory.close()
    assert sorted(told) == [(path, True) for path in sorted(tmp_path.iterdir())]
    assert len(told) == 2
