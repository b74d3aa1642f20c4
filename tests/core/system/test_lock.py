"""Locks end with whoever holds them, and with nobody else."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import keepfast
from keepfast._system import lock
from keepfast._system.commit import sweep
from keepfast._system.lock import holding, holding_file

PREPARED = """
import os, signal, sys, threading, time
from pathlib import Path
from keepfast._system.commit import commit, commit_directory
from keepfast._system.lock import holding, holding_file

directory = Path(sys.argv[1])

def fork_and_wait(*_):
    if not os.fork():
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    sys.stdin.readline()
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def is_free(path: Path) -> bool:
    """Say whether a lock can be had at once."""
    with path.open("ab") as file:
        try:
            with holding(file.fileno(), wait=False) as locked:
                assert locked
        except BlockingIOError:
            return False
    return True


@pytest.fixture
def started() -> Iterator[Any]:
    """Return a function that starts a program, which is killed in the end, and says what it printed first."""
    processes: list[subprocess.Popen[str]] = []

    def start(program: str, directory: Path) -> tuple[subprocess.Popen[str], str]:
        whole = PREPARED + textwrap.dedent(program)
        command = [sys.executable, "-W", "ignore", "-c", whole, str(directory)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield start
    for process in processes:
        with process:
            process.kill()


def test_a_lock_is_held_until_it_is_left(tmp_path: Path) -> None:
    """Nobody else gets it meanwhile, in this process either; the file that stands for it is empty, and stays."""
    path = tmp_path / ".lock"
    with holding_file(path):
        assert not is_free(path)
    assert is_free(path)
    assert path.read_bytes() == b""


def test_what_a_file_says_is_left_alone(tmp_path: Path) -> None:
    """To take a lock neither empties nor changes the file that stands for it."""
    path = tmp_path / ".lock"
    path.write_text("who holds it")
    with holding_file(path):
        assert path.read_text() == "who holds it"
    assert path.read_text() == "who holds it"


def test_the_next_waits_for_the_one_before(tmp_path: Path) -> None:
    """Who waits gets the lock once it is free, and not before."""
    path, order = tmp_path / ".lock", []

    def wait() -> None:
        with holding_file(path):
            order.append("next")

    waiting = threading.Thread(target=wait)
    with holding_file(path):
        waiting.start()
        waiting.join(0.1)
        order.append("first")
    waiting.join()
    assert order == ["first", "next"]


def test_a_copy_of_the_descriptor_does_not_hold_it(tmp_path: Path) -> None:
    """A child that was forked without Python's knowledge has one, and may live long."""
    with (tmp_path / ".lock").open("ab") as file:
        with holding(file.fileno(), wait=False):
            copy = os.dup(file.fileno())
        assert is_free(tmp_path / ".lock")
        os.close(copy)


def test_an_error_frees_it(tmp_path: Path) -> None:
    """Whatever ends the work, the lock is free then."""
    with pytest.raises(KeyError), holding_file(tmp_path / ".lock"):
        raise KeyError
    assert is_free(tmp_path / ".lock")


@needs_fork
@pytest.mark.parametrize(
    ("program", "left"),
    [
        ("with holding_file(directory / '.lock'): fork_and_wait()", [".lock"]),
        ("commit(directory / 'file', fork_and_wait)", []),
        ("commit_directory(directory / 'whole', fork_and_wait)", []),
    ],
    ids=["a lock", "a file", "a directory"],
)
def test_a_kill_frees_it_although_a_child_lives_on(tmp_path: Path, started: Any, program: str, left: list[str]) -> None:
    """A data loader's worker that outlives its parent keeps nobody waiting and no litter from being swept."""
    process, child = started(program, tmp_path)
    assert sweep(tmp_path) == []
    process.kill()
    process.wait()
    try:
        os.kill(int(child), 0)
        sweep(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == left
        assert all(is_free(tmp_path / name) for name in left)
    finally:
        os.kill(int(child), signal.SIGKILL)


@needs_fork
@pytest.mark.parametrize("program", ["", "commit(directory / 'other', lambda file: None); sys.exit()"])
def test_a_child_frees_nothing_of_its_parents(tmp_path: Path, started: Any, program: str) -> None:
    """Whatever a child does, and however it ends, its parent holds what it held."""
    process, _ = started(
        f"""
        with holding_file(directory / '.lock'):
            if not (child := os.fork()):
                {program}
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print("held", flush=True)
            sys.stdin.readline()
        """,
        tmp_path,
    )
    assert not is_free(tmp_path / ".lock")
    process.communicate("\n")
    assert process.returncode == 0
    assert is_free(tmp_path / ".lock")


@needs_fork
def test_a_child_writes_nothing_into_its_parents_file(tmp_path: Path, started: Any) -> None:
    """What was on its way into a file when a child was forked is written once, by the parent."""
    process, _ = started(
        """
        kept, begun, ended = [], threading.Event(), threading.Event()

        def write(file):
            kept.append(file)
            file.write(b"once")
            begun.set()
            ended.wait()

        thread = threading.Thread(target=commit, args=(directory / "file", write))
        thread.start()
        begun.wait()
        if not (child := os.fork()):
            kept[0].flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ended.set()
        thread.join()
        print("done", flush=True)
        """,
        tmp_path,
    )
    process.communicate()
    assert (tmp_path / "file").read_bytes() == b"once"


@pytest.mark.parametrize("code", ["ENOSYS", "ENOTSUP", "ENOLCK", "EINVAL", "EBADF"])
def test_a_file_system_without_locks_is_worked_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Whoever asks is told that nothing is locked; the work is done."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, flags: int) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "file").open("wb") as file, holding(file.fileno(), wait=True) as locked:
        assert not locked
    with holding_file(tmp_path / ".lock"):
        (tmp_path / "done").touch()
    assert (tmp_path / "done").exists()


def test_any_other_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not mean that there are no locks is not taken for it."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, flags: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), holding_file(tmp_path / ".lock"):
        pass


def test_where_no_lock_can_be_made_the_work_is_done_without(tmp_path: Path) -> None:
    """A place that cannot be written in is read; one that is not there is told."""
    (tmp_path / ".lock").mkdir()
    with holding_file(tmp_path / ".lock"):
        (tmp_path / "done").touch()
    assert (tmp_path / "done").exists()
    with pytest.raises(FileNotFoundError), holding_file(tmp_path / "absent" / ".lock"):
        pass


def test_a_directory_that_cannot_be_written_in_is_read_without_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file that stands for a lock is not there and cannot be made, nothing is locked."""
    path, real = tmp_path / ".lock", Path.open

    def refuse(self: Path, mode: str = "r", *more: Any, **named: Any) -> IO[Any]:
        if self == path and mode == "ab":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return real(self, mode, *more, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with holding_file(path):
            (tmp_path / "done").touch()
    assert [each.name for each in tmp_path.iterdir()] == ["done"]


def test_a_lock_of_another_user_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may only read the file that stands for a lock waits for it nevertheless."""
    path, real = tmp_path / ".lock", Path.open

    def refuse(self: Path, mode: str = "r", *more: Any, **named: Any) -> IO[Any]:
        if self == path and mode == "ab":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return real(self, mode, *more, **named)

    path.touch()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with holding_file(path), real(path, "rb") as file, pytest.raises(BlockingIOError):  # noqa: SIM117
            with holding(file.fileno(), wait=False):
                pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others do not tell who holds a lock")
def test_no_wait_is_mute_or_without_end(tmp_path: Path, started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for long says for whom, and gives up with an error that names the file and the process."""
    monkeypatch.setattr(lock, "_TELL_SECONDS", 0.05)
    monkeypatch.setattr(lock, "_GIVE_UP_SECONDS", 0.2)
    process, _ = started(
        "with holding_file(directory / '.lock'): print('held', flush=True), sys.stdin.readline()", tmp_path
    )
    named = re.escape(str(tmp_path / ".lock"))
    with (
        pytest.warns(keepfast.KeepfastWarning, match=f"waiting for `{named}`, which process {process.pid} has") as told,
        pytest.raises(keepfast.DirectoryError, match=f"`{named}` is locked by process {process.pid}, and was for"),
        holding_file(tmp_path / ".lock"),
    ):
        pass
    assert len(told) == 1
