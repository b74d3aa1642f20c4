"""One thread behind training: in order, with back-pressure, and nothing swallowed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import keepfast
from keepfast._system.background import Background
from keepfast._system.warnings import Afterwards


@pytest.fixture
def background() -> Iterator[Background]:
    background = Background("test")
    yield background
    background.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell, and give up, after parts of a second."""
    monkeypatch.setattr("keepfast._system.background._TELL_SECONDS", 0.05)
    monkeypatch.setattr("keepfast._system.background._GIVE_UP_SECONDS", 0.2)


def failing(error: BaseException) -> Callable[[], None]:
    def job() -> None:
        raise error

    return job


def test_jobs_run_in_order_on_one_other_thread(background: Background) -> None:
    """Each job begins after the one before it has ended, and none on the thread that trains."""
    done: list[int] = []
    threads: set[int] = set()
    for number in range(50):
        background.submit(lambda number=number: (done.append(number), threads.add(threading.get_ident())))
    background.wait()
    assert done == list(range(50))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("limit", [1, 3])
def test_submitting_waits_while_enough_is_unfinished(limit: int) -> None:
    """With `limit` unfinished jobs the next `submit` waits for room, so memory stays bounded."""
    background = Background("test", limit)
    gate, more = threading.Event(), threading.Event()
    for _ in range(limit):
        background.submit(lambda: gate.wait(10) and None)
    late = threading.Thread(target=lambda: (background.submit(lambda: None), more.set()))
    late.start()
    assert not more.wait(0.2)
    gate.set()
    assert more.wait(10)
    late.join()
    background.close()


def test_submitting_does_not_wait_for_the_job(background: Background) -> None:
    """The first job of a free thread costs the caller nothing: it goes on while the job is still at it."""
    gone_on = threading.Event()
    seen: list[bool] = []
    background.submit(lambda: seen.append(gone_on.wait(30)))
    gone_on.set()
    background.wait()
    assert seen == [True]


def test_room_is_waited_for() -> None:
    """Whoever asks for room before a job is made has it only once an earlier one is done."""
    background = Background("test")
    gate, room = threading.Event(), threading.Event()
    background.room()
    background.submit(lambda: gate.wait(10) and None)
    asking = threading.Thread(target=lambda: (background.room(), room.set()))
    asking.start()
    assert not room.wait(0.2)
    gate.set()
    assert room.wait(10)
    asking.join()
    background.close()


def test_a_job_that_is_done_is_held_by_nobody(background: Background) -> None:
    """What a job holds, hundreds of megabytes perhaps, is free again as soon as it is done, not when the next comes."""

    class Copy:
        def write(self) -> None:
            pass

    copy = Copy()
    held = weakref.ref(copy)
    background.submit(copy.write)
    background.wait()
    del copy
    assert held() is None


def test_failures_are_raised_in_their_order_each_once() -> None:
    """The first is raised first; until then one can ask whether there is any."""
    background = Background("test", limit=2)
    gate = threading.Event()

    def first() -> None:
        gate.wait(10)
        raise ValueError("first")

    background.submit(first)
    background.submit(failing(ValueError("second")))
    assert not background.failures
    gate.set()
    with pytest.raises(ValueError, match="first"):
        background.wait()
    assert background.failures
    with pytest.raises(ValueError, match="second"):
        background.wait()
    assert not background.failures
    background.close()


@pytest.mark.parametrize("call", ["submit", "wait", "close"])
def test_a_failure_is_raised_at_the_next_call(call: str) -> None:
    """Whatever is called next raises what the job raised, once; then the thread serves on."""
    background = Background("test")
    background.submit(failing(ValueError("broken")))
    after: list[str] = []
    arguments = [lambda: after.append("refused")] if call == "submit" else []
    with pytest.raises(ValueError, match="broken"):
        getattr(background, call)(*arguments)
    background.submit(lambda: after.append("done"))
    background.close()
    assert after == ["done"]


def test_even_a_system_exit_in_a_job_is_raised_where_training_runs(background: Background) -> None:
    """What would end a thread silently is handed over too."""
    background.submit(failing(SystemExit(3)))
    with pytest.raises(SystemExit, match="3"):
        background.wait()


def test_closing_finishes_every_job_ends_the_thread_and_may_be_repeated() -> None:
    """After `close` all that was promised is done; closing twice is fine, and another job starts another thread."""
    background = Background("closing-test", limit=5)
    done: list[int] = []
    for number in range(5):
        background.submit(lambda number=number: (time.sleep(0.01), done.append(number)))
    background.close()
    assert done == list(range(5))
    background.close()
    deadline = time.monotonic() + 5
    while any(thread.name == "closing-test" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "closing-test"]
    background.submit(lambda: done.append(5))
    background.close()
    assert done[-1] == 5


def test_a_job_is_done_in_line_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """At interpreter shutdown Python starts no threads any more: the job is done, and nothing hangs at `close`."""
    background = Background("test")

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    done: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        background.submit(lambda: done.append(1))
    assert done == [1]
    background.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", ["submit", "room", "wait", "close"])
def test_no_wait_is_mute_or_without_end(call: str) -> None:
    """It is told what is waited for; a job that hangs is given up, once, until it comes to its end after all."""
    background = Background("test", does="a file to be written")
    gate = threading.Event()
    background.submit(lambda: gate.wait(60) and None)
    arguments = [lambda: None] if call == "submit" else []
    with (
        pytest.warns(keepfast.KeepfastWarning, match="waiting for a file to be written") as told,
        pytest.raises(keepfast.WaitedInVain, match=r"in vain for a file to be written, for 0\.2 seconds"),
        Afterwards(),  # at whose end it would be too late
    ):
        getattr(background, call)(*arguments)
    assert len(told) == 1
    with pytest.raises(keepfast.WaitedInVain):
        getattr(background, call)(*arguments)
    gate.set()
    deadline = time.monotonic() + 30
    while background._hangs and time.monotonic() < deadline:
        time.sleep(0.01)
    background.submit(lambda: None)
    background.close()


@pytest.mark.usefixtures("impatient")
def test_a_wait_is_told_where_warnings_are_errors_too(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr: it is no error, and what is waited for comes to its end."""
    background = Background("test", does="a file to be written")
    gate, done = threading.Event(), threading.Event()
    background.submit(lambda: (gate.wait(60), done.set()))
    threading.Timer(0.1, gate.set).start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        background.close()
    assert done.is_set()
    assert "KeepfastWarning: waiting for a file to be written" in capsys.readouterr().err


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_interpreter_finishes_what_was_promised_before_it_exits(tmp_path: Path) -> None:
    """A program that ends right after submitting still gets its file."""
    program = (
        "import sys, time, pathlib\n"
        "from keepfast._system.background import Background\n"
        "background = Background('exit')\n"
        "background.submit(lambda: (time.sleep(0.3), pathlib.Path(sys.argv[1]).write_text('done')))\n"
    )
    ended = run(program, str(tmp_path / "file"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == "done"


def test_a_failure_that_nobody_asked_for_is_told_at_exit() -> None:
    """A program that never calls again still shows the error."""
    program = (
        "from keepfast._system.background import Background\n"
        "def job(): raise ValueError('broken')\n"
        "background = Background('exit')\n"
        "background.submit(job)\n"
    )
    assert "ValueError: broken" in run(program).stderr


def test_one_failure_at_exit_does_not_keep_others_from_finishing(tmp_path: Path) -> None:
    """Every thread finishes its jobs when the interpreter ends, also when other ones' jobs failed, which are told."""
    program = (
        "import sys, time, pathlib\n"
        "from keepfast._system.background import Background\n"
        "def fail(text): raise ValueError(text)\n"
        "first, healthy, last = Background('first'), Background('healthy'), Background('last')\n"
        "first.submit(lambda: fail('broken first'))\n"
        "healthy.submit(lambda: (time.sleep(0.2), pathlib.Path(sys.argv[1]).write_text('done')))\n"
        "last.submit(lambda: fail('broken last'))\n"
    )
    told = run(program, str(tmp_path / "file")).stderr
    assert (tmp_path / "file").read_text() == "done"
    assert "ValueError: broken first" in told
    assert "ValueError: broken last" in told


def test_work_at_exit_is_done_where_it_is_asked_for(tmp_path: Path) -> None:
    """A program that submits from its own exit handler gets its file, on every version of Python."""
    program = (
        "import atexit, sys, pathlib\n"
        "from keepfast._system.background import Background\n"
        "background = Background('exit')\n"
        "def leave():\n"
        "    background.submit(lambda: pathlib.Path(sys.argv[1]).write_text('done'))\n"
        "    background.close()\n"
        "atexit.register(leave)\n"
    )
    ended = run(program, str(tmp_path / "file"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == "done"


FORKING = """
import os, sys, threading, time
from keepfast._system.background import Background

log = open(sys.argv[1], "a", buffering=1)
gate = threading.Event()
background = Background("fork", limit=2)
background.submit(lambda: (gate.wait(20), log.write("parent\\n")))
background.submit(lambda: log.write("parent too\\n"))
child = os.fork()
if child == 0:
    background.submit(lambda: log.write("child\\n"))
    background.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
gate.set()
background.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_can_use_it_and_leaves_the_parents_jobs_to_the_parent(tmp_path: Path) -> None:
    """Forked in the middle of a job, with another one queued: each job is done once, by whoever promised it."""
    ended = run("import warnings; warnings.simplefilter('ignore')\n" + FORKING, str(tmp_path / "log"))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "log").read_text().splitlines() == ["child", "parent", "parent too"]
