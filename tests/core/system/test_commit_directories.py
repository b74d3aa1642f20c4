"""Directories are complete or absent as files are: whatever fills them, beside others, and under second names."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast._system.commit import (
    Filling,
    commit,
    commit_directory,
    commit_together,
    link,
    remove_directory,
    sweep,
)
from keepfast._system.disk.directories import Durable, files_of, is_link_of, size_of


def fill(directory: Path) -> None:
    """Write two files and one in a directory below."""
    (directory / "data").write_bytes(b"x" * 1000)
    (directory / "about").write_bytes(b"y")
    (directory / "below" / "deep").mkdir(parents=True)
    (directory / "below" / "deep" / "data").write_bytes(b"z" * 10)


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files_of(path)}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


FILLED = {"data": b"x" * 1000, "about": b"y", "below/deep/data": b"z" * 10}


def test_files_below_a_directory_count_as_its_own(tmp_path: Path) -> None:
    """They are in the size, and in what is committed."""
    path = tmp_path / "a" / "directory"
    assert commit_directory(path, fill) == size_of(path) == 1011
    assert content(path) == FILLED
    assert [file.name for file in files_of(path)] == ["about", "data", "data"]
    assert files_of(path / "data") == [path / "data"]
    assert names(path.parent) == ["directory"]


def test_every_file_is_durable_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was filled in, then the directories from the deepest up, then the rename, then the parent."""
    synced: list[int] = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    def spy_rename(source: Any, target: Any) -> None:
        before.extend(synced)
        rename(source, target)

    before: list[int] = []
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    path = tmp_path / "directory"
    commit_directory(path, fill)
    inner = [*path.rglob("*"), path]
    assert set(before) == {each.stat().st_ino for each in inner}
    for each in inner[:-1]:
        assert before.index(each.stat().st_ino) < before.index(each.parent.stat().st_ino)
    assert synced[len(before) :] == [tmp_path.stat().st_ino]


def test_a_file_that_whoever_filled_made_durable_is_not_fsynced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is: the directories are fsynced, and the files that are not told of."""
    synced = list[int]()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: [fsync(descriptor), synced.append(os.fstat(descriptor).st_ino)])

    def filled(directory: Path) -> Durable:
        fill(directory)
        return Durable(frozenset({"below/deep/data", "about"}))

    path = tmp_path / "directory"
    assert commit_directory(path, filled) == 1011
    expected = [path / "data", path / "below" / "deep", path / "below", path, tmp_path]
    assert sorted(synced) == sorted(each.stat().st_ino for each in expected)


def write(file: Any) -> None:
    file.write(b"new")


def refuse(_place: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("last", [refuse, Filling(refuse)], ids=["file", "directory"])
def test_of_several_all_or_none_are_there(tmp_path: Path, last: Any) -> None:
    """Files and directories are committed together; where one cannot be written, none has got its name."""
    first = {tmp_path / "file": write, tmp_path / "directory": Filling(fill)}
    with pytest.raises(keepfast.WriteFailed, match=r"cannot write `.*last`: No space left on device"):
        commit_together({**first, tmp_path / "last": last})
    assert names(tmp_path) == []
    assert commit_together(first) == {tmp_path / "file": 3, tmp_path / "directory": 1011}
    assert names(tmp_path) == ["directory", "file"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_one_kind_does_not_replace_the_other(tmp_path: Path, kind: str) -> None:
    """A file in the place of a directory, or the reverse, is told and left."""
    path = tmp_path / "taken"
    if kind == "file":
        path.write_bytes(b"somebody's own")
    else:
        path.mkdir()
        (path / "notes").write_bytes(b"somebody's own")
    with pytest.raises(keepfast.WriteFailed, match="cannot write `"):
        commit_together({path: Filling(fill) if kind == "file" else write})
    assert set(content(path).values()) == {b"somebody's own"}
    assert names(tmp_path) == ["taken"]


def test_what_a_pattern_names_may_be_replaced(tmp_path: Path) -> None:
    """Shards of a former directory go with it, whatever their number; anything else stays, and is told."""
    path = tmp_path / "directory"
    path.mkdir()
    for name in ("0.shard", "1.shard", "data"):
        (path / name).write_bytes(b"old")
    with pytest.raises(keepfast.WriteFailed, match=r"holds `0\.shard`, which would be lost"):
        commit_directory(path, fill)
    with pytest.raises(keepfast.WriteFailed, match=r"holds `0\.shard`, which would be lost"):
        commit_directory(path, fill, ["1.*"])
    commit_directory(path, fill, ["*.shard"])
    assert content(path) == FILLED
    assert names(tmp_path) == ["directory"]


@pytest.fixture(params=["file", "directory"])
def present(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "present"
    commit_together({path: write if request.param == "file" else Filling(fill)})
    return path


def test_a_second_name_outlives_the_first(present: Path) -> None:
    """It is of the same files, none of them copied, and it stays when the first is replaced."""
    other, before = present.with_name("other"), content(present)
    link(present, other)
    assert content(other) == before
    assert is_link_of(other, present)
    assert all(file.stat().st_nlink == 2 for file in files_of(other))
    refilled = Filling(lambda path: (path / "data").write_bytes(b"0"), ["*"])
    commit_together({present: refilled if present.is_dir() else write})
    assert not is_link_of(other, present)
    assert content(other) == before


def test_a_refused_second_name_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that could be linked only in part is not there at all."""
    path, real, left = tmp_path / "directory", os.link, [1]
    commit_directory(path, fill)

    def refusing(source: Any, target: Any, **options: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            refuse(target)
        real(source, target, **options)

    monkeypatch.setattr(os, "link", refusing)
    with pytest.raises(OSError, match="No space left"):
        link(path, tmp_path / "other")
    assert names(tmp_path) == ["directory"]
    assert sweep(tmp_path) == []


def changed(path: Path) -> None:
    (path / "about").unlink()
    (path / "about").write_bytes(b"y")


CHANGES: dict[str, Callable[[Path], object]] = {
    "another file of the same content": changed,
    "a file more": lambda path: (path / "more").touch(),
    "a file less": lambda path: (path / "about").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_directories_that_differ_in_a_file_are_not_the_same(tmp_path: Path, change: str) -> None:
    """Nor are a file and a directory, nor what is not there."""
    path, other = tmp_path / "directory", tmp_path / "other"
    commit_directory(path, fill)
    link(path, other)
    assert is_link_of(path, other)
    CHANGES[change](other)
    assert not is_link_of(path, other)
    assert not is_link_of(path, path / "data")
    assert not is_link_of(path / "data", tmp_path / "absent")
    assert not is_link_of(tmp_path / "absent", path)


LONG = "n" * 250 + ".d"


@pytest.mark.parametrize("name", [LONG, "\u00e4" * 127, "n" * 255])
def test_names_of_255_bytes_are_written_and_replaced(tmp_path: Path, name: str) -> None:
    """Files and directories alike; what is hidden meanwhile is not longer."""
    commit(tmp_path / name, lambda file: file.write(b"file"))
    commit(tmp_path / name, lambda file: file.write(b"again"))
    assert (tmp_path / name).read_bytes() == b"again"
    (tmp_path / name).unlink()
    for content in ("one", "two"):
        commit_directory(tmp_path / name, lambda path, content=content: (path / "data").write_text(content))
    assert (tmp_path / name / "data").read_text() == "two"
    remove_directory(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_a_long_name_is_put_back_after_a_kill(tmp_path: Path) -> None:
    """Killed between the two renames, the previous one lies aside whole; a sweep gives it its name again."""
    wrapper = tmp_path / f".{7:020d}.keepfast-old"
    (wrapper / LONG).mkdir(parents=True)
    (wrapper / LONG / "data").write_text("previous")
    (tmp_path / f".{8:020d}.keepfast-old").mkdir()
    assert sweep(tmp_path) == []
    assert (tmp_path / LONG / "data").read_text() == "previous"
    assert [path.name for path in tmp_path.iterdir()] == [LONG]


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_a_symbolic_link_leads_to_what_is_replaced(tmp_path: Path, there: bool) -> None:
    """The link stays, and what it points at is written in one step, beside it."""
    (tmp_path / "scratch").mkdir()
    target, link = tmp_path / "scratch" / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(target)
    commit(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_symbolic_link_to_a_directory_leads_there(tmp_path: Path) -> None:
    """A directory is replaced where it is, too."""
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    for content in ("one", "two"):
        commit_directory(link, lambda path, content=content: (path / "data").write_text(content))
    assert link.is_symlink()
    assert (target / "data").read_text() == "two"


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    """It stays, and the error says what is wrong."""
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(keepfast.WriteFailed, match="Too many levels of symbolic links"):
        commit(link, lambda file: file.write(b"new"))
    assert link.is_symlink()


def test_the_mode_of_what_is_replaced_is_kept(tmp_path: Path) -> None:
    """What only its owner may read stays so."""
    file, directory = tmp_path / "file", tmp_path / "directory"
    file.touch()
    directory.mkdir()
    file.chmod(0o600)
    directory.chmod(0o700)
    commit(file, lambda opened: opened.write(b"new"))
    commit_directory(directory, lambda path: (path / "data").touch())
    assert file.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
