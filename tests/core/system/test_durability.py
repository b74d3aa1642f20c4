"""What a power loss may leave: each step of a commit waits until the one before it is on the disk."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from keepfast._system.commit import commit, commit_directory, commit_together, link

SMALL = b"so little that it waits in the process until it is flushed"


class Journal:
    """Notes what is made durable, with what the system has of it then, and what is renamed and removed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        fsync, replace, rename, rmtree = os.fsync, os.replace, os.rename, shutil.rmtree

        def spy_fsync(descriptor: int) -> None:
            fsync(descriptor)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                self.calls.append(f"names in {self._named(status)}")
            else:
                self.calls.append(os.pread(descriptor, status.st_size + 1, 0))

        def spy_rename(source: Any, target: Any) -> None:
            self.calls.append("aside" if Path(target).name.startswith(".") else f"in place {Path(target).name}")
            rename(source, target)

        def spy_replace(source: Any, target: Any) -> None:
            self.calls.append(f"in place {Path(target).name}")
            replace(source, target)

        def spy_rmtree(path: Any, *rest: Any, **options: Any) -> None:
            self.calls.append("removed")
            rmtree(path, *rest, **options)

        monkeypatch.setattr(os, "fsync", spy_fsync)
        monkeypatch.setattr(os, "replace", spy_replace)
        monkeypatch.setattr(os, "rename", spy_rename)
        monkeypatch.setattr(shutil, "rmtree", spy_rmtree)
        self.parent: os.stat_result | None = None

    def _named(self, status: os.stat_result) -> str:
        return "parent" if self.parent is not None and os.path.samestat(status, self.parent) else "new directory"


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    journal = Journal(monkeypatch)
    journal.parent = tmp_path.stat()
    return journal


def write(file: BinaryIO) -> None:
    file.write(SMALL)


def test_what_is_fsynced_is_the_whole_file(tmp_path: Path, journal: Journal) -> None:
    """A file's bytes have left the process when the disk is asked for them, before it gets its name."""
    commit(tmp_path / "file", write)
    assert journal.calls == [SMALL, "in place file", "names in parent"]


def test_several_files_are_whole_before_the_first_has_its_name(tmp_path: Path, journal: Journal) -> None:
    """No power loss leaves the new one of one name beside the old one of another's, half written."""
    commit_together({tmp_path / "a": write, tmp_path / "b": write})
    assert journal.calls == [SMALL, SMALL, "in place a", "in place b", "names in parent"]


def fill(directory: Path) -> None:
    (directory / "data").write_bytes(SMALL)


def test_a_directory_is_whole_before_it_has_its_name(tmp_path: Path, journal: Journal) -> None:
    """Its files first, then their names in it, then its own name."""
    commit_directory(tmp_path / "directory", fill)
    assert journal.calls == [SMALL, "names in new directory", "in place directory", "names in parent"]


def test_a_directory_is_removed_only_once_the_new_one_has_its_name(tmp_path: Path, journal: Journal) -> None:
    """The rename is on the disk before the old one goes: a power loss in between leaves the one or the other."""
    commit_directory(tmp_path / "directory", fill)
    journal.calls.clear()
    commit_directory(tmp_path / "directory", fill)
    in_place = journal.calls.index("names in parent")
    assert journal.calls[:in_place].count("in place directory") == 2  # the first finds the name taken
    assert "removed" in journal.calls[in_place:]
    assert "removed" not in journal.calls[:in_place]


def test_a_second_name_of_a_directory_comes_once_its_files_have_theirs(tmp_path: Path, journal: Journal) -> None:
    """Each file in it has its other name on the disk before the directory gets its own."""
    commit_directory(tmp_path / "directory", fill)
    journal.calls.clear()
    link(tmp_path / "directory", tmp_path / "other")
    assert journal.calls == [SMALL, "names in new directory", "in place other"]
