"""Power losses at any point: what was told to be durable is there, whole, or a newer one; all else was not told of.

What is done to the disk is recorded (`tests/powerloss`), and of that every state that a loss may leave can be made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from tests.powerloss import playing
from tests.powerloss.disk import Disk
from tests.powerloss.recorder import Recorder
from tests.powerloss.training import TIMESTEPS, PartlyFrozen, Training

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="recorded as Linux names open files"),
    pytest.mark.filterwarnings("ignore:the run in .* is complete:keepfast.KeepfastWarning"),
]

takes_long = pytest.mark.timeout(0 if playing.EVERYTHING in os.environ else 600)
"""All losses take as long as they take."""

_STRACE = shutil.which("strace")
STATES = 24
"""How many losses of each kind of work are looked at in the suite; the session `powerloss` looks at all."""

SETTINGS = {
    "in line": {"checkpoint_interval": 3, "async_checkpoints": False},
    "behind training, few kept": {"checkpoint_interval": 2, "keep_last": 2, "keep_best": 2},
    "separate files": {"checkpoint_interval": 5, "store_separately": True, "keep_last": 1, "keep_every": 10},
    "one kept": {"checkpoint_interval": 4, "checkpoint_format": "pt", "keep_last": 1, "keep_best": 0},
}


def train(make: Any, directory: Path, recorder: Recorder, settings: dict[str, Any]) -> None:
    """Train to the middle, and to the end after a resume."""
    for last in (TIMESTEPS // 2, TIMESTEPS):
        training = make(directory, recorder, **settings)
        training.run(training.experiment.resume(), last)
        training.experiment.close()


@takes_long
@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_goes_on_from_what_was_durable(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints, the best, separate files, retention, metrics, a resume; it ends as one that lost nothing."""
    check = partial(Training.assert_exact, **SETTINGS[name])
    told = playing.play(partial(train, Training, settings=SETTINGS[name]), check, tmp_path, name, STATES)
    with capsys.disabled():
        print(f"\n{name}: {told}, and each run went on from what was durable, or newer")


@takes_long
@pytest.mark.parametrize("kept", [{"keep_last": 1}, {"keep_last": 2, "keep_best": 2}], ids=str)
def test_a_training_whose_files_are_shared_goes_on(
    tmp_path: Path, kept: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Separate files of what does not change, of which names come and go."""
    settings = {"checkpoint_interval": 3, "store_separately": True, **kept}
    work, check = partial(train, PartlyFrozen, settings=settings), partial(PartlyFrozen.assert_exact, **settings)
    told = playing.play(work, check, tmp_path, f"frozen {kept}", STATES)
    assert len({path.stat().st_ino for path in tmp_path.glob("whole/run/checkpoints/*frozen*")}) == 1
    with capsys.disabled():
        print(f"\nshared files, {kept}: {told}, and each run went on from what was durable, or newer")


@takes_long
@pytest.mark.parametrize(
    ("backend", "asynchronous"),
    [
        pytest.param(name, asynchronous, marks=pytest.mark.needs(name))
        for name in ("torch", "jax")
        for asynchronous in (False, True)
    ],
)
def test_a_training_of_a_framework_and_its_memory_go_on(
    tmp_path: Path, backend: str, asynchronous: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a network or a pytree, with a memory in each checkpoint."""
    from tests.powerloss.frameworks import TRAININGS

    settings = {"checkpoint_interval": 4, "keep_last": 2, "async_checkpoints": asynchronous}
    training, name = TRAININGS[backend], f"{backend}, {'behind training' if asynchronous else 'in line'}"
    told = playing.play(
        partial(train, training, settings=settings), partial(training.assert_exact, **settings), tmp_path, name, STATES
    )
    with capsys.disabled():
        print(f"\n{name}: {told}, and each run went on from what was durable, or newer")


FORMATS = [
    pytest.param(extension, marks=pytest.mark.needs(*packages))
    for extension, *packages in ((".pt",), (".safetensors",), (".msgpack", "msgpack"), (".pickle", "msgpack"))
]


@pytest.mark.parametrize("extension", FORMATS)
def test_a_file_is_of_the_last_save_or_a_newer_one(tmp_path: Path, extension: str) -> None:
    """At its name is one save, whole, or nothing before the first was told of."""

    def save(directory: Path, recorder: Recorder) -> None:
        for number in range(1, 5):
            keepfast.save({"w": np.full(3000, float(number))}, directory / "new" / f"agent{extension}")
            recorder.tell(number)

    def check(directory: Path, told: list[Any]) -> None:
        path = directory / "new" / f"agent{extension}"
        if not path.exists():
            assert told == []
            return
        numbers = set(np.asarray(keepfast.read_checkpoint(path)["module"]["w"]).tolist())
        assert len(numbers) == 1
        assert numbers.pop() >= max(told, default=0)

    print(playing.play(save, check, tmp_path, extension, STATES))


MEMORY_FORMATS = [
    pytest.param(name, marks=pytest.mark.needs("torch", *packages))
    for name, *packages in (
        *(("pt",), ("npz",), ("np",), ("safetensors",)),
        *(("csv", "polars"), ("parquet", "pyarrow"), ("minari", "h5py")),
    )
]


@pytest.mark.parametrize("form", MEMORY_FORMATS)
def test_a_memory_that_was_saved_is_there(tmp_path: Path, form: str) -> None:
    """Whole, in each format; a file that nobody was told of is whole as well, or not there."""
    import torch

    import keepfast_torch

    def save(directory: Path, recorder: Recorder) -> None:
        memory = keepfast_torch.RandomMemory(4, 2, export_directory=directory / "memories")
        for name, size in (("observations", 3), ("actions", 1), ("rewards", 1)):
            memory.create_tensor(name, size)
        for number in range(3):
            value = torch.full((2, 1), number + 1.0)
            memory.add_samples(observations=value.expand(2, 3), actions=value, rewards=value)
            recorder.tell(str(memory.save(format=form).relative_to(directory)))

    def check(directory: Path, told: list[Any]) -> None:
        found = [path for path in (directory / "memories").glob("[!.]*") if path.suffix != ".json"]
        assert {str(path.relative_to(directory)) for path in found} >= set(told)
        for path in found:
            memory = keepfast_torch.RandomMemory(4, 2)
            memory.load(path)
            rows = len(memory) // 2
            observations, rewards = (memory.get_tensor_by_name(name)[:rows] for name in ("observations", "rewards"))
            assert (observations == rewards).all()
            assert set(rewards.flatten().tolist()) == set(np.arange(1.0, rows + 1))

    print(playing.play(save, check, tmp_path, form, STATES))


def test_the_record_is_all_that_was_done(tmp_path: Path) -> None:
    """Played to its end it gives every file of the directory, byte by byte."""
    recorder = playing.recorded(partial(train, Training, settings=SETTINGS["separate files"]), tmp_path / "whole")
    disk = Disk()
    for event in recorder.events:
        disk.apply(event)
    (tmp_path / "played").mkdir()
    disk.write_whole(tmp_path / "played")
    assert playing.content(tmp_path / "played") == playing.content(tmp_path / "whole")


def test_a_directory_that_is_not_synced_may_lose_its_names(tmp_path: Path) -> None:
    """What nobody synced is lost in some states, and torn in others: the losses are not all harmless."""
    whole = b"a whole record\n"

    def write(directory: Path, _recorder: Recorder) -> None:
        (directory / "a").write_bytes(whole)
        (directory / "a").replace(directory / "b")

    recorder = playing.recorded(write, tmp_path / "whole")
    states = len(recorder.events)
    left = [
        tuple(playing.content(tmp_path / "lost").items())
        for seed in range(40)
        for _told in playing.lost(recorder, tmp_path / "lost", str(seed), states)
    ]
    assert {(), (("b", b""),), (("b", whole),), (("a", b""),)} <= set(left)
    assert any(0 < len(held or b"") < len(whole) for state in left for _, held in state)


CALLS = {
    "mkdir": ("mkdir", "mkdirat"),
    "rename": ("rename", "renameat", "renameat2"),
    "link": ("link", "linkat", "symlink", "symlinkat"),
    "unlink": ("unlink", "unlinkat"),
    "rmdir": ("rmdir",),
    "write": ("write", "writev", "pwrite64", "pwritev", "pwritev2"),
    "fsync": ("fsync", "fdatasync", "sync_file_range", "msync"),
    "truncate": ("truncate", "ftruncate", "fallocate"),
    "other": ("sendfile", "copy_file_range", "splice", "mmap"),
}
"""The calls of Linux that change what is on a disk, by what the recorder calls them; it has none of the last."""


@pytest.mark.skipif(not _STRACE, reason="strace is not installed")
@pytest.mark.parametrize("name", ["in line", "separate files"])
def test_nothing_bypasses_the_record(tmp_path: Path, name: str) -> None:
    """The system sees just the calls that were recorded."""
    directory, trace = tmp_path / "whole", tmp_path / "trace"
    kinds = {call: kind for kind, calls in CALLS.items() for call in calls}
    command = [str(_STRACE), "-ff", "-y", "-o", str(trace), "-e", f"trace={','.join(kinds)}"]
    command += [sys.executable, "-m", "tests.powerloss.traced", str(directory), json.dumps(SETTINGS[name])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "ptrace" in done.stderr and done.returncode:
        pytest.skip("this system lets nobody trace")
    assert done.returncode == 0, done.stderr
    counts: Counter[str] = Counter()
    for path in tmp_path.glob("trace.*"):  # one for each thread
        for call, arguments in re.findall(r"^(\w+)\((.*)\) += (?!-1)", path.read_text(errors="replace"), re.MULTILINE):
            if re.search(rf"{directory}[/>]", arguments) and not _only_reads(call, arguments):
                counts["rmdir" if "AT_REMOVEDIR" in arguments else kinds[call]] += 1
    recorded = json.loads(done.stdout)
    del recorded["create"]  # nobody can tell from outside whether a file was there before it was opened
    assert counts == recorded


def _only_reads(call: str, arguments: str) -> bool:
    return call == "mmap" and not ("MAP_SHARED" in arguments and "PROT_WRITE" in arguments)
