"""Commits under SIGKILL, and from several processes at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keepfast._system.commit import sweep

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and fork")


KILLS = 30


SIZE = 2_000_000


COMMITTING = f"""
import itertools, sys
from pathlib import Path
from keepfast._system.commit import commit

path = Path(sys.argv[1])
for number in itertools.count():
    byte = bytes([number % 256])
    commit(path, lambda file: [file.write(byte * {SIZE // 20}) for _ in range(20)])
    if number == 0:
        print("first", flush=True)
"""


COMMITTING_CHILDREN = f"""
import itertools, os, sys
from pathlib import Path
from keepfast._system.commit import commit

path, parent = Path(sys.argv[1]), os.getpid()
for _ in sys.stdin:
    child = os.fork()  # cheaper than an interpreter for each of the thirty
    if child:
        os.waitpid(child, 0)
        print("gone", flush=True)
        continue
    for number in itertools.count():
        if os.getppid() != parent:
            os._exit(1)
        byte = bytes([number % 256])
        commit(path, lambda file: [file.write(byte * {SIZE // 20}) for _ in range(20)])
        if number == 0:
            print(os.getpid(), flush=True)
"""


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs; whatever of them still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def whole(path: Path) -> bool:
    content = path.read_bytes()
    return len(content) == SIZE and content.count(content[:1]) == SIZE


def test_a_kill_in_the_middle_of_a_commit_never_shows(
    tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thirty SIGKILLs during continuous commits to one name: it is whole after each, and one sweep takes the litter."""
    path = tmp_path / "file"
    complete = littered = 0
    waits = random.Random(0)
    parent = start(COMMITTING_CHILDREN, path)
    assert parent.stdin is not None
    for _ in range(KILLS):
        parent.stdin.write("go\n")
        parent.stdin.flush()
        child = int(next_line(parent))
        time.sleep(waits.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert next_line(parent) == "gone\n"
        complete += whole(path)
        littered += len(sweep(tmp_path))
        assert list(tmp_path.iterdir()) == [path]
    with capsys.disabled():
        sys.stdout.write(f"\n{complete} of {KILLS} files whole after SIGKILL, {littered} pieces of litter swept\n")
    assert complete == KILLS
    assert littered > 0


def test_processes_committing_to_one_name_and_sweeping_do_not_harm_each_other(tmp_path: Path, start: Start) -> None:
    """Two processes at once on one name, with a third that sweeps all the time: the file is whole at every look."""
    path = tmp_path / "file"
    committing = [start(COMMITTING, path) for _ in range(2)]
    for process in committing:
        assert next_line(process) == "first\n"
    deadline = time.monotonic() + 3
    looks = 0
    while time.monotonic() < deadline:
        sweep(tmp_path)
        assert whole(path)
        looks += 1
    assert [process.poll() for process in committing] == [None, None]
    assert looks > 10


CHECKPOINTING = """
import sys
import numpy as np
from pathlib import Path
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.checkpoints.retention import Retention
from keepfast.interfaces.checkpoint_store import CheckpointMetadata

directory, first = CheckpointDirectory(Path(sys.argv[1])), int(sys.argv[2])
for number in range(15):
    timestep = first + 10 * number
    directory.write(
        {"policy": {"w": np.full(1000, timestep)}, "value": {"w": np.full(1000, timestep)}},
        CheckpointMetadata(timestep=timestep, modules=("policy", "value")),
        SafetensorsStore(),
        separately=bool(first % 2),
        best=False,
        retention=Retention(keep_last=5, keep_every=100, keep_best=1, mode="max"),
    )
"""


def test_two_processes_on_one_checkpoint_directory_do_not_harm_each_other(tmp_path: Path, start: Start) -> None:
    """With files and index changed by both, every checkpoint the index lists is whole, and none of either is lost."""
    from keepfast.checkpoints.directory import CheckpointDirectory
    from keepfast.checkpoints.index import read_index

    processes = [start(CHECKPOINTING, tmp_path, first) for first in (0, 5)]
    for process in processes:
        assert process.wait(120) == 0
    directory = CheckpointDirectory(tmp_path)
    listed = read_index(tmp_path)
    for indexed in listed:
        (value,) = set(directory.read(indexed).modules["policy"]["w"].tolist())
        assert value == indexed.timestep
    timesteps = [indexed.timestep for indexed in listed]
    assert timesteps[-5:] == [125, 130, 135, 140, 145]
    assert {0, 100} <= set(timesteps)
    on_disk = {path.name for path in tmp_path.iterdir()} - {"index.json"}
    assert on_disk == {name for indexed in listed for name in indexed.names}


FORKING = """
import os, sys, time
from pathlib import Path
from keepfast.checkpoints.index import exclusive

directory = Path(sys.argv[1])
with exclusive(directory):
    child = os.fork()
    if child == 0:
        time.sleep(300)
        os._exit(0)
with exclusive(directory):
    print("free" if os.waitpid(child, os.WNOHANG) == (0, 0) else "waited for", flush=True)
os.kill(child, 9)
os.waitpid(child, 0)
"""


def test_a_child_forked_during_a_checkpoint_does_not_hold_the_directory(tmp_path: Path, start: Start) -> None:
    """Environments and data loaders fork at any moment and live long; the next checkpoint need not wait for them."""
    process = start(FORKING, tmp_path)
    output, _ = process.communicate(timeout=240)
    assert (process.returncode, output) == (0, "free\n")
