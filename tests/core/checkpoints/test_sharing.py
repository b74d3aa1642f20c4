"""Separate files of modules that did not change are shared by checkpoints, each of which is whole by itself."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfast._system.commit import commit
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import IndexedCheckpoint, read_index
from keepfast.checkpoints.placing import whole
from keepfast.checkpoints.retention import Retention
from keepfast.checkpoints.scan import rebuild
from keepfast.checkpoints.verification import verify
from keepfast.errors import CorruptCheckpoint, WriteFailed
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata
from keepfast.plugins.formats import read_checkpoint, stores
from tests.core.checkpoints.test_directory import killed_after

SUFFIXES = [
    pytest.param(suffix, marks=pytest.mark.needs(*packages))
    for suffix, *packages in ((".pt",), (".safetensors",), (".msgpack", "msgpack"), (".pickle", "msgpack"))
]
SIZE = 5000
ALL = Retention(None, None, 1, "max")


def write(
    directory: CheckpointDirectory,
    timestep: int,
    *,
    trunk: float = 0.0,
    head: float | None = None,
    score: float | None = None,
    suffix: str = ".pt",
    keep: Retention = ALL,
    more: Mapping[str, Any] | None = None,
    **told: Any,
) -> IndexedCheckpoint:
    """Write a checkpoint of a head, which holds its timestep or a number, and of a trunk that changes but seldom."""
    state: dict[str, Any] = {
        "head": {"w": np.full(8, float(timestep if head is None else head))},
        "trunk": {"w": np.full(SIZE, trunk), "frozen": True},
        **(more or {}),
    }
    metric = None if score is None else {"tag": "score", "value": score}
    metadata = CheckpointMetadata(
        format_version=1, timestep=timestep, modules=tuple(state), time=float(timestep), resume={"at": timestep}
    )
    metadata = CheckpointMetadata.of({**metadata.as_mapping(), "metric": metric, **told})
    return directory.write(state, metadata, stores()[suffix], separately=True, best=score is not None, retention=keep)


def names_of(path: Path) -> int:
    return path.stat().st_nlink


def assert_holds(directory: CheckpointDirectory, indexed: IndexedCheckpoint, head: float, trunk: float) -> None:
    read = directory.read(indexed)
    assert set(read.modules["head"]["w"].tolist()) == {head}
    assert set(read.modules["trunk"]["w"].tolist()) == {trunk}
    assert read.about.timestep == indexed.timestep
    assert read.about.resume == {"at": indexed.timestep}
    assert read.about.unchanged is None


def problems(path: Path) -> list[str]:
    return [verdict.problem for verdict in verify(path) if verdict.problem]


@pytest.fixture
def directory(tmp_path: Path) -> CheckpointDirectory:
    return CheckpointDirectory(tmp_path / "checkpoints")


@pytest.fixture(params=SUFFIXES)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_unchanged_module_is_not_written_again(directory: CheckpointDirectory, suffix: str) -> None:
    """Its file has another name instead; each checkpoint is what it was at its time."""
    for timestep in (10, 20, 30):
        write(directory, timestep, trunk=7.0, suffix=suffix)
    trunks = [directory.path / f"trunk_{timestep}{suffix}" for timestep in (10, 20, 30)]
    assert trunks[0].samefile(trunks[1])
    assert trunks[0].samefile(trunks[2])
    assert names_of(directory.path / f"head_10{suffix}") == 1
    for indexed, timestep in zip(directory.checkpoints(), (10, 20, 30), strict=True):
        assert_holds(directory, indexed, float(timestep), 7.0)
    assert problems(directory.path) == []


def test_a_module_that_changed_is_written(directory: CheckpointDirectory, suffix: str) -> None:
    """A target network between two updates is shared, and written at each."""
    for timestep in (10, 20, 30, 40, 50):
        write(directory, timestep, trunk=float(timestep // 20), suffix=suffix)
    counts = [names_of(directory.path / f"trunk_{timestep}{suffix}") for timestep in (10, 20, 30, 40, 50)]
    assert counts == [1, 2, 2, 2, 2]
    for indexed, timestep in zip(directory.checkpoints(), (10, 20, 30, 40, 50), strict=True):
        assert_holds(directory, indexed, float(timestep), float(timestep // 20))


def test_a_checkpoint_outlives_the_one_whose_file_it_shares(directory: CheckpointDirectory) -> None:
    """Retention takes away names; the file stays as long as one is left."""
    keep = Retention(1, None, 1, "max")
    for timestep in (10, 20, 30):
        write(directory, timestep, trunk=7.0, keep=keep)
    assert sorted(path.name for path in directory.path.glob("*.pt")) == ["head_30.pt", "trunk_30.pt"]
    assert names_of(directory.path / "trunk_30.pt") == 1
    (kept,) = directory.checkpoints()
    assert_holds(directory, kept, 30.0, 7.0)
    assert problems(directory.path) == []


def test_the_best_shares_with_periodic_ones(directory: CheckpointDirectory) -> None:
    """Also where its own file is replaced by the very file that it is."""
    write(directory, 10, trunk=7.0)
    write(directory, 10, trunk=7.0, score=1.0)
    write(directory, 20, trunk=7.0)
    write(directory, 20, trunk=7.0, score=2.0)
    assert names_of(directory.path / "best_trunk.pt") == 3
    assert not list(directory.path.glob(".*"))
    (best,) = directory.newest_first(best=True)
    assert (best.timestep, best.score) == (20, 2.0)
    assert_holds(directory, best, 20.0, 7.0)
    assert problems(directory.path) == []


def test_a_best_of_another_time_does_not_hide_the_latest(directory: CheckpointDirectory) -> None:
    """The best, stored behind a checkpoint, may be of an older trunk."""
    write(directory, 10, trunk=1.0)
    write(directory, 10, trunk=0.0, score=1.0)
    write(directory, 20, trunk=1.0)
    assert (directory.path / "trunk_20.pt").samefile(directory.path / "trunk_10.pt")


def test_one_file_tells_of_the_checkpoint_though_nothing_changed(directory: CheckpointDirectory) -> None:
    """The smallest is written: it holds what a resume needs."""
    write(directory, 10, head=1.0)
    write(directory, 20, head=1.0)
    assert [names_of(directory.path / f"{name}_20.pt") for name in ("head", "trunk")] == [1, 2]
    assert_holds(directory, directory.checkpoints()[1], 1.0, 0.0)


def test_a_file_with_names_enough_is_written_and_then_shared(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems have so many for a file."""
    monkeypatch.setattr("keepfast._system.disk.sharing._MOST_NAMES", 2)
    for timestep in (10, 20, 30, 40):
        write(directory, timestep)
    counts = [names_of(directory.path / f"trunk_{timestep}.pt") for timestep in (10, 20, 30, 40)]
    assert counts == [2, 2, 2, 2]
    assert not (directory.path / "trunk_20.pt").samefile(directory.path / "trunk_30.pt")


def test_a_single_module_is_written(directory: CheckpointDirectory) -> None:
    """There is no other file to tell of its checkpoint."""
    state = {"trunk": {"w": np.zeros(8)}}
    for timestep in (10, 20):
        told = CheckpointMetadata(timestep=timestep, modules=("trunk",), resume={})
        directory.write(state, told, stores()[".pt"], separately=True, best=False, retention=ALL)
    assert names_of(directory.path / "trunk_20.pt") == 1


def test_all_in_one_file_is_written(directory: CheckpointDirectory) -> None:
    """The plain single file is as ever."""
    for timestep in (10, 20):
        told = CheckpointMetadata(timestep=timestep, modules=("a", "b"), resume={})
        directory.write(
            {"a": {"w": np.zeros(8)}, "b": {}}, told, stores()[".pt"], separately=False, best=False, retention=ALL
        )
    assert names_of(directory.path / "agent_20.pt") == 1


@pytest.mark.parametrize(
    "told", [{"keepfast": "9.9"}, {"names": {"trunk": ["other"]}}, {"backends": {"trunk": "plain"}}], ids=str
)
def test_what_a_file_tells_of_its_module_is_unchanged_too(directory: CheckpointDirectory, told: dict[str, Any]) -> None:
    """Else it is written, whatever its arrays are."""
    write(directory, 10)
    write(directory, 20, **told)
    assert names_of(directory.path / "trunk_20.pt") == 1


def test_a_memory_whose_rows_are_others_is_written(directory: CheckpointDirectory) -> None:
    """Its file names the segments that it needs, which the arrays in it do not show."""
    log = {"trunk": {"segments": []}, "head": {}}
    write(directory, 10, logs=log)
    write(directory, 20, logs={**log, "head": {"other": 1}})
    write(directory, 30, logs={"trunk": {"segments": [{"file": "x"}]}, "head": {}})
    assert [names_of(directory.path / f"trunk_{timestep}.pt") for timestep in (20, 30)] == [2, 1]


def test_another_format_is_written(directory: CheckpointDirectory) -> None:
    """A file is shared by those of its format alone."""
    write(directory, 10)
    write(directory, 20, suffix=".safetensors")
    assert names_of(directory.path / "trunk_20.safetensors") == 1
    assert_holds(directory, directory.checkpoints()[1], 20.0, 0.0)


def test_a_damaged_file_is_not_shared(directory: CheckpointDirectory) -> None:
    """It is written anew, so that later checkpoints are good."""
    write(directory, 10)
    path = directory.path / "trunk_10.pt"
    state = path.stat()
    with path.open("r+b") as file:
        file.seek(state.st_size // 2)
        file.write(b"\x01")
    os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
    write(directory, 20)
    assert len(problems(directory.path)) == 1
    assert_holds(directory, directory.checkpoints()[1], 20.0, 0.0)


def test_damage_of_a_shared_file_is_told_of_each_checkpoint(directory: CheckpointDirectory) -> None:
    """All that share it have lost it, and none is read as if it had not."""
    write(directory, 10)
    write(directory, 20)
    with (directory.path / "trunk_20.pt").open("r+b") as file:
        file.seek(SIZE)
        file.write(b"\x01")
    assert [("trunk_10.pt" in each or "trunk_20.pt" in each) for each in problems(directory.path)] == [True, True]
    for indexed in directory.checkpoints():
        with pytest.raises(CorruptCheckpoint, match="damaged"):
            directory.read(indexed)


@pytest.mark.parametrize("best", [False, True])
def test_a_lost_index_is_made_again(directory: CheckpointDirectory, best: bool) -> None:
    """Files that were written for earlier checkpoints are found where they are needed, by what names them."""
    write(directory, 10, score=1.0 if best else None)
    write(directory, 20, score=2.0 if best else None)
    write(directory, 30, score=3.0 if best else None, keep=Retention(2, None, 2, "max"))
    write(directory, 30)
    listed = read_index(directory.path)
    found, damaged = rebuild(directory.path)
    assert damaged == {}
    assert {frozenset(each.names): (each.timestep, each.own, each.metric) for each in found} == {
        frozenset(each.names): (each.timestep, each.own, each.metric) for each in listed
    }
    (directory.path / "index.json").unlink()
    directory.adopt()
    assert len(read_index(directory.path)) == len(listed)
    for indexed in directory.checkpoints():
        assert_holds(directory, indexed, float(indexed.timestep or 0), 0.0)


def test_a_file_that_is_needed_and_gone_leaves_no_checkpoint(directory: CheckpointDirectory) -> None:
    """What is left of it is not taken for one."""
    write(directory, 10)
    write(directory, 20)
    (directory.path / "trunk_20.pt").unlink()
    (directory.path / "index.json").unlink()
    directory.adopt()
    assert [each.timestep for each in read_index(directory.path)] == [10]
    write(directory, 30)
    (directory.path / "head_30.pt").unlink()
    (directory.path / "index.json").unlink()
    directory.adopt()
    assert [each.timestep for each in read_index(directory.path)] == [10]


def test_a_run_that_is_copied_is_whole(directory: CheckpointDirectory, tmp_path: Path) -> None:
    """Also by what knows no second names."""
    for timestep in (10, 20):
        write(directory, timestep)
    shutil.copytree(directory.path, tmp_path / "copy")
    copy = CheckpointDirectory(tmp_path / "copy")
    assert problems(copy.path) == []
    for indexed in copy.checkpoints():
        assert_holds(copy, indexed, float(indexed.timestep or 0), 0.0)


@pytest.mark.parametrize("kind", ["link", "names"])
def test_where_links_are_refused_files_are_written(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """And after the first refusal nothing is compared any more."""
    write(directory, 10)
    tried = []

    def refuse(*names: Any, **_named: Any) -> None:
        tried.append(names)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    for timestep in (20, 30, 40):
        write(directory, timestep)
    assert len(tried) == 1
    assert [names_of(directory.path / f"trunk_{timestep}.pt") for timestep in (10, 20, 30, 40)] == [1] * 4
    for indexed in directory.checkpoints():
        assert_holds(directory, indexed, float(indexed.timestep or 0), 0.0)
    assert problems(directory.path) == []


def test_a_checkpoint_syncs_no_more_files_than_it_writes(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shared is durable already."""
    counts, fsync = [0], os.fsync

    def counting(descriptor: int) -> None:
        counts[-1] += 1
        fsync(descriptor)

    write(directory, 10)
    monkeypatch.setattr(os, "fsync", counting)
    write(directory, 20, trunk=1.0)
    counts.append(0)
    write(directory, 30, trunk=1.0)
    assert counts[1] == counts[0] - 1


@pytest.mark.parametrize("renames", range(4))
@pytest.mark.parametrize("best", [False, True])
def test_a_kill_between_the_renames_leaves_one_or_the_other(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch, renames: int, best: bool
) -> None:
    """Of the same timestep again, or of the best, whose files are replaced one by one."""
    score = 1.0 if best else None
    write(directory, 10, head=1.0, score=score)
    with killed_after(monkeypatch, renames):
        write(directory, 20 if best else 10, head=2.0, score=2.0 if best else None)
    after = CheckpointDirectory(directory.path)
    after.sweep()
    after.adopt()
    found = []
    for indexed in after.newest_first(best=best):
        try:
            found.append(after.read(indexed).modules["head"]["w"][0])
            break
        except (CorruptCheckpoint, OSError):
            continue
    assert found in ([1.0], [2.0])


def test_a_refused_write_leaves_what_is_shared_as_it_was(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next checkpoint shares it."""
    write(directory, 10)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(WriteFailed):
            write(directory, 20)
    assert names_of(directory.path / "trunk_10.pt") == 1
    write(directory, 30)
    assert names_of(directory.path / "trunk_10.pt") == 2


def test_files_that_nobody_names_do_not_belong(directory: CheckpointDirectory, tmp_path: Path) -> None:
    """A file of another checkpoint, put in the place of one that is needed unchanged, is told."""
    other = CheckpointDirectory(tmp_path / "other")
    write(other, 20)
    write(directory, 10)
    write(directory, 20)
    documents = {path: read_checkpoint(path) for path in (other.path / "trunk_20.pt", directory.path / "head_20.pt")}
    with pytest.raises(CorruptCheckpoint, match="were not written at the same time"):
        whole(documents)
    content = (other.path / "trunk_20.pt").read_bytes()
    commit(directory.path / "trunk_20.pt", lambda file: file.write(content))
    with pytest.raises(CorruptCheckpoint, match="do not belong together"):
        directory.read(directory.checkpoints()[1])


def test_a_later_file_belongs_with_an_earlier_one_as_named(tmp_path: Path) -> None:
    """Whichever comes first; the one that was written for the checkpoint tells of it."""
    old = Checkpoint({}, {"timestep": 10, "set": "a", "module": "trunk", "modules": ["head", "trunk"], "time": 1.0})
    new = {"timestep": 20, "set": "b", "module": "head", "modules": ["head", "trunk"], "time": 2.0}
    made = Checkpoint({}, {**new, "unchanged": {"trunk": "a"}})
    for order in ((old, made), (made, old)):
        found = whole({tmp_path / str(number): document for number, document in enumerate(order)})
        assert (found.about.timestep, found.about.time, found.about.set, found.about.unchanged) == (20, 2.0, None, None)
    with pytest.raises(CorruptCheckpoint, match="belong together"):
        whole({tmp_path / "0": old, tmp_path / "1": Checkpoint({}, {**new, "unchanged": {"other": "a"}})})


def test_files_of_one_set_are_of_one_timestep(tmp_path: Path) -> None:
    """Those of another tool have no set, and tell no more than their timestep."""
    files = {tmp_path / f"{name}_10.pt": Checkpoint({}, {"timestep": at}) for name, at in (("a", 10), ("b", 20))}
    with pytest.raises(CorruptCheckpoint, match=r"is of timestep 20, but .* of 10; they do not"):
        whole(files)
