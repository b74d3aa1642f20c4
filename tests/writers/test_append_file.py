"""A file that grows by whole records, which are on the disk once it was flushed or closed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keepfast import UsageError
from keepfast_writers._append_file import AppendFile
from keepfast_writers._line_file import open_lines


@pytest.fixture
def file(tmp_path: Path) -> AppendFile:
    return AppendFile(tmp_path / "metrics.jsonl")


@pytest.fixture
def durable(monkeypatch: pytest.MonkeyPatch, file: AppendFile) -> list[bytes]:
    """Return what the file held at each of its fsyncs."""
    found: list[bytes] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), file.path.stat()):
            found.append(file.path.read_bytes())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    return found


def test_a_flush_leaves_all_records_on_the_disk(file: AppendFile, durable: list[bytes]) -> None:
    """Every time, not only the first."""
    for number in range(2):
        file.append(b"line %d\n" % number)
        file.flush()
    assert durable == [b"line 0\n", b"line 0\nline 1\n"]
    file.close()


def test_a_close_leaves_all_records_on_the_disk(file: AppendFile, durable: list[bytes]) -> None:
    """It flushes; the second close has nothing to do."""
    file.append(b"line\n")
    file.close()
    file.close()
    assert durable == [b"line\n"]


def test_a_refused_fsync_keeps_no_file_open(file: AppendFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk refuses is told by close, which lets go of the file all the same."""
    closed: list[tuple[int, int]] = []
    close = os.close

    def spy(descriptor: int) -> None:
        status = os.fstat(descriptor)
        closed.append((status.st_dev, status.st_ino))
        close(descriptor)

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    status = file.path.stat()
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", spy)
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            file.close()
    assert closed == [(status.st_dev, status.st_ino)]
    with pytest.raises(UsageError, match="was closed; make another writer"):
        file.append(b"line\n")


def test_a_record_is_there_whole_or_not_at_all(file: AppendFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the operating system takes a record in parts, all come; where it refuses one, the others go again."""
    write = os.write
    left = 8

    def scarce(descriptor: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left -= 1
        return write(descriptor, data[:1])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", scarce)
        file.append(b"first\n")
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.append(b"second\n")
    file.append(b"third\n")
    file.close()
    assert file.path.read_bytes() == b"first\nthird\n"


def test_records_of_two_openings_do_not_overwrite_one_another(file: AppendFile) -> None:
    """As those of a child, or of an earlier start, that has the file open too."""
    other = AppendFile(file.path)
    for number, each in enumerate([file, other, file]):
        each.append(b"line %d\n" % number)
    file.close()
    other.close()
    assert file.path.read_bytes() == b"line 0\nline 1\nline 2\n"


@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize("whole", [b"", b"whole\n"])
def test_a_torn_line_is_cut_off(tmp_path: Path, whole: bytes, *, resumes: bool) -> None:
    """At a start and at a resume, where there are whole lines before it and where there are none."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(whole + b"torn")
    open_lines(path, (lambda _line: True) if resumes else None).close()
    assert path.read_bytes() == whole


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("keep", [None, lambda _line: True])
def test_a_pipe_is_not_waited_for(tmp_path: Path, keep: Callable[[bytes], bool] | None) -> None:
    """At a start, at a resume, and where it takes the place of a file that was written."""
    path = tmp_path / "metrics.jsonl"
    written = AppendFile(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="a pipe"):
        open_lines(path, keep)
    written.append(b"line\n")
    with pytest.raises(OSError, match="a pipe"):
        written.flush()
    assert path.is_fifo()
