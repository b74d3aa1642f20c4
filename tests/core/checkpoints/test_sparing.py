"""Somebody's own files under the names of checkpoints: they get other names, and nothing of them is lost."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast._system.commit import commit
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.verification import verify
from keepfast.plugins.formats import stores
from tests.core.checkpoints.test_directory import TAG, Watch, flip_a_byte, names, write
from tests.powerloss import playing
from tests.powerloss.recorder import Recorder


def of_torch(path: Path) -> None:
    """Write an archive as ``torch.save`` does, whatever the extension is."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")


def of_directories(path: Path) -> None:
    """Make a directory with a file in it."""
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def of_links(path: Path) -> None:
    """Make a file that has another name, as in a cache."""
    path.write_bytes(b"mine")
    os.link(path, path.with_name("another name"))


SUFFIXES = [".pt", ".safetensors", pytest.param(".msgpack", marks=pytest.mark.needs("msgpack"))]

FOREIGN: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_bytes(b"what somebody wrote"),
    "nothing": lambda path: path.write_bytes(b""),
    "torch": of_torch,
    "directory": of_directories,
    "link": of_links,
}


def content_of(path: Path) -> dict[str, bytes]:
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}


@pytest.mark.parametrize("separately", [False, True], ids=["together", "separately"])
@pytest.mark.parametrize("score", [None, 1.0], ids=["periodic", "best"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_somebody_wrote_is_put_aside(
    tmp_path: Path, kind: str, suffix: str, score: float | None, separately: bool
) -> None:
    """Of each name that a checkpoint has; again and again, and the checkpoint is there."""
    reference, directory = (CheckpointDirectory(tmp_path / name) for name in ("reference", "checkpoints"))
    write(reference, 5, score=score, separately=separately, suffix=suffix)
    directory.path.mkdir()
    made = dict[str, dict[str, bytes]]()
    for ending in (".replaced", ".replaced-2"):
        for name in names(reference):
            if (path := directory.path / name).exists():
                stores()[suffix].remove(path)
            FOREIGN[kind](path)
            made[f"{path.stem}{ending}{suffix}"] = content_of(path)
            path.with_name("another name").unlink(missing_ok=True)
        write(directory, 5, score=score, separately=separately, suffix=suffix)
    assert {name: content_of(directory.path / name) for name in names(directory) if ".replaced" in name} == made
    assert {name for name in names(directory) if ".replaced" not in name} == set(names(reference))
    assert {verdict.problem for verdict in verify(directory.path)} == {None}
    assert len(directory.checkpoints()) == 1


@pytest.mark.parametrize("separately", [False, True], ids=["together", "separately"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_keepfast_wrote_is_replaced(tmp_path: Path, suffix: str, separately: bool) -> None:
    """By a run that does a timestep again and by a best, also where it is damaged or the index is lost."""
    directory = CheckpointDirectory(tmp_path / "checkpoints")
    for number in range(3):
        for score in (None, float(number)):
            write(directory, 5, score=score, separately=separately, suffix=suffix, content=number)
        if number == 0:
            (directory.path / "index.json").unlink()
        for path in directory.path.glob(f"*{suffix}"):
            flip_a_byte(path)
    assert [name for name in names(directory) if ".replaced" in name] == []


def test_it_has_its_other_name_before_the_new_one_takes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durable, so that no loss of power takes both; where nobody has the name nothing is fsynced."""
    directory = CheckpointDirectory(tmp_path / "checkpoints")
    write(directory, 5)
    (directory.path / "agent_6.pt").write_bytes(b"mine")
    watch = Watch(monkeypatch)
    write(directory, 6)
    named = ["link agent_6.replaced.pt", "fsync directory", "rename agent_6.pt", "rename index.json"]
    assert watch.calls == ["fsync", "fsync", *named, "fsync directory"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="recorded as Linux names open files")
@pytest.mark.parametrize("separately", [False, True], ids=["together", "separately"])
def test_a_loss_of_power_takes_nothing_of_it(tmp_path: Path, separately: bool) -> None:
    """At whatever moment: it has the one name or the other."""
    keys = ("policy", "critic_1", "critic_2") if separately else ("agent",)

    def work(directory: Path, recorder: Recorder) -> None:
        for key in keys:
            commit(directory / "run" / f"{key}_5.pt", lambda file, key=key: file.write(key.encode()))
        recorder.tell("there")
        write(CheckpointDirectory(directory / "run"), 5, separately=separately)

    def check(directory: Path, told: list[Any]) -> None:
        for key in keys if told else ():
            found = [directory / "run" / f"{key}_5{ending}.pt" for ending in ("", ".replaced")]
            assert key.encode() in [path.read_bytes() for path in found if path.exists()]

    print(playing.play(work, check, tmp_path, "spared", 60))


def train(directory: Path, **settings: Any) -> None:
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": [], "checkpoint_interval": 2}
    with keepfast.Experiment({**cfg, "best_metric": TAG, **settings}, timesteps=4) as experiment:
        experiment.register(policy={"weight": 1.0})
        for timestep in range(4):
            experiment.track_data(TAG, float(timestep))
            experiment.step(timestep)


@pytest.mark.parametrize("async_checkpoints", [False, True])
def test_a_run_tells_where_the_files_of_another_tool_are(tmp_path: Path, async_checkpoints: bool) -> None:
    """As those of skrl in the same folder, of which the run starts anew."""
    (checkpoints := tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("agent_2.pt", "agent_4.pt", "best_agent.pt"):
        of_torch(checkpoints / name)
    mine = (checkpoints / "agent_2.pt").read_bytes()
    with pytest.warns(keepfast.KeepfastWarning) as told:
        train(tmp_path, async_checkpoints=async_checkpoints, checkpoint_format="pt")
    said = [str(each.message) for each in told if "was not written by Keepfast" in str(each.message)]
    assert len(said) == 3
    for name in ("agent_2", "agent_4", "best_agent"):
        assert (checkpoints / f"{name}.replaced.pt").read_bytes() == mine
        assert keepfast.read_checkpoint(checkpoints / f"{name}.pt") == {"policy": {"weight": 1.0}}
        assert any(f"{name}.pt`" in each and f"{name}.replaced.pt`" in each for each in said)


def test_what_cannot_be_put_aside_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is refused, as where the disk is full."""
    directory = CheckpointDirectory(tmp_path / "checkpoints")
    directory.path.mkdir()
    (directory.path / "agent_6.pt").write_bytes(b"mine")

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", refused)
        with pytest.raises(keepfast.WriteFailed, match="what was there before is untouched"):
            write(directory, 6)
    assert names(directory) == ["agent_6.pt"]
    assert (directory.path / "agent_6.pt").read_bytes() == b"mine"
