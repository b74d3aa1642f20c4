"""Directories and names that survive a loss of power."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast._system.disk.directories import make_directory
from keepfast_writers._append_file import AppendFile


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Return what was fsynced, by device and inode."""
    found: set[tuple[int, int]] = set()
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        status = os.fstat(descriptor)
        found.add((status.st_dev, status.st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    return found


def unsynced(root: Path, synced: set[tuple[int, int]]) -> list[Path]:
    """Return the directories at and below a path that were not fsynced though they hold something."""
    holding = [path for path in [root, *root.rglob("*")] if path.is_dir() and any(path.iterdir())]
    return [path for path in holding if (path.stat().st_dev, path.stat().st_ino) not in synced]


def test_a_new_directory_is_durable_with_those_above_it(tmp_path: Path, synced: set[tuple[int, int]]) -> None:
    """Each directory that got a new entry is fsynced; where nothing is new, nothing is."""
    make_directory(tmp_path / "a" / "b" / "c")
    assert unsynced(tmp_path, synced) == []
    synced.clear()
    make_directory(tmp_path / "a" / "b" / "c")
    assert synced == set()


def test_a_file_that_grows_is_durable_under_its_name(tmp_path: Path, synced: set[tuple[int, int]]) -> None:
    """The first flush fsyncs its directory too, the next ones the file alone."""
    file = AppendFile(tmp_path / "metrics.jsonl")
    file.append(b"line\n")
    file.flush()
    assert unsynced(tmp_path, synced) == []
    synced.clear()
    file.flush()
    assert unsynced(tmp_path, synced) == [tmp_path]
    file.close()


def test_every_directory_that_got_a_new_entry_is_durable(
    tmp_path: Path, net: Callable[..., Any], synced: set[tuple[int, int]]
) -> None:
    """The run's own, those above it that were made for it, and that of its checkpoints."""
    cfg = {"directory": tmp_path / "new" / "runs", "experiment_name": "a/b", "writers": ["jsonl", "csv"]}
    with keepfast.Experiment({**cfg, "checkpoint_interval": 1, "write_interval": 1}, timesteps=1) as experiment:
        experiment.register(policy=net(0))
        experiment.track_data("Loss / Loss", 1.0)
        experiment.step(0)
    assert unsynced(tmp_path, synced) == []


def test_directories_of_exports_and_event_files_are_made_durable(project: Path) -> None:
    """Nothing makes a directory but the one function that makes it durable."""
    sources = [path for room in ("core", "writers", "backends") for path in (project / room).rglob("*.py")]
    sources = [path for path in sources if "testing" not in path.parts]
    making = {path.name for path in sources if ".mkdir(" in path.read_text(encoding="utf-8")}
    assert making == {"directories.py", "commit.py"}  # the latter its hidden ones, which are renamed
