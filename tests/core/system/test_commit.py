"""Files are complete or absent, whatever the operating system refuses."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import keepfast
from keepfast._system import lock
from keepfast._system.commit import commit, commit_directory, commit_together, remove_directory, sweep

OLD, NEW = b"old " * 1000, b"new " * 100_000


def write_in_parts(file: BinaryIO) -> None:
    file.writelines(NEW[start : start + 100_000] for start in range(0, len(NEW), 100_000))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_a_committed_file_is_there_with_its_size(tmp_path: Path) -> None:
    """Missing directories are made, the size is returned, and nothing else lies beside the file."""
    path = tmp_path / "a" / "b" / "file"
    assert commit(path, write_in_parts) == len(NEW)
    assert path.read_bytes() == NEW
    assert names(path.parent) == ["file"]


def test_the_bytes_are_durable_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First fsync of every file, then the renames, then fsync of the directory."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        calls.append("directory" if is_directory(descriptor) else "file")
        fsync(descriptor)

    def spy_replace(source: Any, target: Any) -> None:
        calls.append(f"rename {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    commit_together({tmp_path / "a": write_in_parts, tmp_path / "b": write_in_parts})
    assert calls == ["file", "file", "rename a", "rename b", "directory"]


class Fault:
    """Raises an `OSError` at the n-th call of a kind; calls go through otherwise."""

    def __init__(self, real: Callable[..., Any], at: int, code: int, *, directories: bool = False) -> None:
        self.real, self.at, self.code, self.directories = real, at, code, directories
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        if isinstance(arguments[0], int) and is_directory(arguments[0]) != self.directories:
            return self.real(*arguments)
        self.calls += 1
        if self.calls == self.at:
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*arguments)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_refused_step_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, at: int
) -> None:
    """The previous files are untouched, no litter stays, and the error names the file and the reason."""
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        path.write_bytes(OLD)
    monkeypatch.setattr(os, step, Fault(getattr(os, step), at, errno.EIO))
    with pytest.raises(keepfast.WriteFailed) as raised:
        commit_together(dict.fromkeys(paths, write_in_parts))
    assert (
        str(raised.value) == f"cannot write `{paths[at - 1]}`: Input/output error; what was there before is untouched"
    )
    assert isinstance(raised.value, OSError)
    assert names(tmp_path) == ["first", "second"]
    assert paths[at - 1].read_bytes() == OLD
    assert all(path.read_bytes() in (OLD, NEW) for path in paths)
    if step == "fsync":
        assert paths[0].read_bytes() == OLD


@pytest.mark.parametrize("part", range(4))
def test_a_full_disk_at_any_write_leaves_what_was_there(tmp_path: Path, part: int) -> None:
    """Wherever in the file the space runs out, the previous file stays and the litter goes."""
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def write(file: BinaryIO) -> None:
        for number in range(4):
            if number == part:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.write(NEW)

    with pytest.raises(keepfast.WriteFailed, match=r"cannot write `.*file`: No space left on device"):
        commit(path, write)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


def test_a_real_full_device_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own ENOSPC, seen only when buffers are flushed, is reported the same way."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def write(file: BinaryIO) -> None:
        descriptor = os.open("/dev/full", os.O_RDWR)
        os.dup2(descriptor, file.fileno())
        os.close(descriptor)
        file.write(b"x")

    with pytest.raises(keepfast.WriteFailed, match="No space left on device"):
        commit(path, write)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


def test_a_refused_fsync_of_the_directory_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file is whole under its name; the error says that only its durability is in doubt."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    monkeypatch.setattr(os, "fsync", Fault(os.fsync, 1, errno.EIO, directories=True))
    with pytest.raises(keepfast.WriteFailed, match=r"cannot make `.*file` durable: Input/output error"):
        commit(path, write_in_parts)
    assert path.read_bytes() == NEW
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [TypeError("no such leaf"), KeyboardInterrupt()], ids=repr)
def test_a_writer_that_raises_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    """Its own error comes through as it is, and neither file nor litter changes."""
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def write(file: BinaryIO) -> None:
        file.write(NEW)
        raise error

    with pytest.raises(type(error)):
        commit(path, write)
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", ""])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str, kind: type) -> None:
    """NUL, half a character or nothing: told before anything is written, of text and of paths alike."""
    given = kind(f"{tmp_path}/{name}") if name else kind("")
    with pytest.raises(keepfast.InvalidValue, match=r"is no path: it holds|which is no name of a file"):
        keepfast.commit(given, write_in_parts)
    assert names(tmp_path) == []


@pytest.mark.parametrize("obstacle", ["a file in the way", "a directory of that name", "a name too long"])
def test_an_impossible_place_is_told(tmp_path: Path, obstacle: str) -> None:
    """Whatever the file system says of a path, the error names it and nothing is left."""
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "directory").mkdir()
    path = {
        "a file in the way": tmp_path / "file" / "below",
        "a directory of that name": tmp_path / "directory",
        "a name too long": tmp_path / ("x" * 300),
    }[obstacle]
    with pytest.raises(keepfast.WriteFailed, match="cannot write `"):
        commit(path, write_in_parts)
    assert names(tmp_path) == ["directory", "file"]


def litter(directory: Path, name: str = ".agent_5.pt.0123456789ab.keepfast-tmp") -> Path:
    path = directory / name
    path.write_bytes(b"half")
    return path


def test_sweeping_removes_the_litter_of_the_dead_and_nothing_else(tmp_path: Path) -> None:
    """What a killed save left goes; other files, hidden ones too, stay."""
    kept = [tmp_path / name for name in ("agent_5.pt", ".hidden", "notes.keepfast-tmp", ".other.tmp")]
    for path in kept:
        path.write_bytes(OLD)
    dead = litter(tmp_path)
    assert sweep(tmp_path) == [dead]
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_sweeping_leaves_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep in the middle of a commit, as another process starting beside it makes one, neither waits nor changes."""
    path = tmp_path / "file"
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the sweep waits for the commit"))

    def write(file: BinaryIO) -> None:
        file.write(NEW)
        assert sweep(tmp_path) == []

    commit(path, write)
    assert path.read_bytes() == NEW


def test_a_file_swept_before_it_was_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a temporary file's creation and its lock a sweep may take it; the commit goes on under another name."""
    real, swept = lock.lock_descriptor, []

    def late(descriptor: int, **how: Any) -> bool:
        if not swept:
            swept.extend(tmp_path.glob(".file*"))
            swept[0].unlink()
        return real(descriptor, **how)

    monkeypatch.setattr(lock, "lock_descriptor", late)
    assert commit(tmp_path / "file", write_in_parts) == len(NEW)
    assert len(swept) == 1
    assert (tmp_path / "file").read_bytes() == NEW
    assert names(tmp_path) == ["file"]


def test_a_file_system_without_locks_is_written_to_but_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can tell the living from the dead, files are still committed, and litter stays."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, flags: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = litter(tmp_path)
    commit(tmp_path / "file", write_in_parts)
    assert sweep(tmp_path) == []
    assert left.exists()
    assert (tmp_path / "file").read_bytes() == NEW


FILES = {"data": write_in_parts, "about": lambda file: file.write(OLD)}


def filling(files: Mapping[str, Callable[[BinaryIO], object]]) -> Callable[[Path], None]:
    """Return what fills a directory with files."""

    def fill(directory: Path) -> None:
        for name, write in files.items():
            with (directory / name).open("x+b") as file:
                write(file)

    return fill


def old_directory(tmp_path: Path) -> Path:
    path = tmp_path / "directory"
    path.mkdir()
    (path / "data").write_bytes(OLD)
    return path


def test_a_committed_directory_is_there_with_its_files(tmp_path: Path) -> None:
    """Missing parents are made, the size of all files is returned, and nothing else lies beside the directory."""
    path = tmp_path / "a" / "directory"
    assert commit_directory(path, filling(FILES)) == len(NEW) + len(OLD)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {"data": NEW, "about": OLD}
    assert names(path.parent) == ["directory"]


def test_a_committed_directory_replaces_the_one_before(tmp_path: Path) -> None:
    """The directory of that name is replaced as a whole, and the previous one is gone."""
    path = old_directory(tmp_path)
    commit_directory(path, filling({"data": write_in_parts}))
    commit_directory(path, filling(FILES))
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {"data": NEW, "about": OLD}
    assert names(tmp_path) == ["directory"]


def test_a_directory_with_something_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    """What nobody said is Keepfast's is not removed: the error names it, and everything stays."""
    path = old_directory(tmp_path)
    (path / "notes").write_bytes(OLD)
    with pytest.raises(keepfast.WriteFailed, match="a directory of that name holds `notes`, which would be lost"):
        commit_directory(path, filling(FILES))
    assert names(path) == ["data", "notes"]
    assert names(tmp_path) == ["directory"]


@pytest.mark.parametrize(
    ("step", "at", "directories"),
    [("fsync", 1, False), ("fsync", 2, False), ("fsync", 1, True), ("rename", 1, False), ("rename", 2, False),
     ("rename", 3, False)],
)  # fmt: skip
def test_a_refused_step_of_a_directory_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, at: int, directories: bool
) -> None:
    """Whichever fsync or rename is refused, the previous directory is untouched and no litter stays."""
    path = old_directory(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, step, Fault(getattr(os, step), at, errno.EIO, directories=directories))
        with pytest.raises(keepfast.WriteFailed, match=r"directory`: Input/output error; what was there .* untouched"):
            commit_directory(path, filling(FILES))
    assert (path / "data").read_bytes() == OLD
    assert names(tmp_path) == ["directory"]


def test_a_writer_that_raises_leaves_no_directory(tmp_path: Path) -> None:
    """Where one of the files cannot be written, there is no directory, not even an empty one."""

    def write(file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(keepfast.WriteFailed, match="No space left on device"):
        commit_directory(tmp_path / "directory", filling({**FILES, "last": write}))
    assert names(tmp_path) == []


KILLED_AT_RENAME = """
import os, signal, sys
from pathlib import Path
from keepfast._system.commit import commit_directory, remove_directory

rename, calls = os.rename, []

def killing(source, target):
    calls.append(source)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)

os.rename = killing
if sys.argv[3] == "commit":
    commit_directory(Path(sys.argv[1]), lambda directory: (directory / "data").write_bytes(b"new"))
else:
    __import__("shutil").rmtree = lambda path: killing(path, path)
    remove_directory(Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("at", "call", "left"),
    [(1, "commit", OLD), (2, "commit", OLD), (3, "commit", OLD), (4, "commit", b"new"), (1, "remove", OLD),
     (2, "remove", None)],
)  # fmt: skip
def test_a_kill_at_any_rename_leaves_a_whole_directory(tmp_path: Path, at: int, call: str, left: bytes | None) -> None:
    """After the next sweep the old or the new directory has the name, or none after a removal, and nothing else is."""
    path = old_directory(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_RENAME, str(path), str(at), call], check=False)
    assert killed.returncode == -signal.SIGKILL
    sweep(tmp_path)
    assert names(tmp_path) == ([] if left is None else ["directory"])
    assert left is None or (path / "data").read_bytes() == left


def test_sweeping_removes_the_directories_of_the_dead_and_leaves_those_of_the_living(tmp_path: Path) -> None:
    """A directory that is being written stays, one whose writer was killed goes."""
    dead = tmp_path / ".directory.0123456789ab.keepfast-tmp"
    dead.mkdir()
    (dead / "data").write_bytes(OLD)
    swept = []

    def write(file: BinaryIO) -> None:
        file.write(NEW)
        swept.append(sweep(tmp_path))

    commit_directory(tmp_path / "directory", filling({"data": write, "about": write}))
    assert swept == [[dead], []]
    assert names(tmp_path) == ["directory"]
    assert names(tmp_path / "directory") == ["about", "data"]


def test_of_several_replaced_directories_the_newest_gets_its_name_back(tmp_path: Path) -> None:
    """Kills between the renames of several saves leave several; sweeping keeps the last."""
    for stamp in ("1", "3", "2"):
        aside = tmp_path / f".directory.{stamp}.keepfast-old"
        aside.mkdir()
        (aside / "data").write_text(stamp)
    sweep(tmp_path)
    assert names(tmp_path) == ["directory"]
    assert (tmp_path / "directory" / "data").read_text() == "3"


def test_a_directory_is_removed(tmp_path: Path) -> None:
    """Nothing is left of it, and removing one that is not there is fine."""
    path = old_directory(tmp_path)
    remove_directory(path)
    remove_directory(path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_but_a_directory_is_removed(tmp_path: Path, kind: str) -> None:
    """A file in its place, or a link to a directory of somebody else's, is refused and stays."""
    (tmp_path / "else").mkdir()
    path = tmp_path / "directory"
    path.write_bytes(OLD) if kind == "file" else path.symlink_to(tmp_path / "else")
    with pytest.raises(NotADirectoryError, match="this is no directory"):
        remove_directory(path)
    assert names(tmp_path) == ["directory", "else"]
