"""Checkpoints that the index does not list: taken in from the files themselves, and told from somebody's own files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import read_index
from keepfast.checkpoints.retention import Retention
from keepfast.checkpoints.scan import rebuild
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata, CheckpointStore
from keepfast.plugins.formats import stores

MODULES = ("policy", "critic_1")
TAG = "Reward / Total reward (mean)"
STATE = {name: {"w": np.ones(3)} for name in MODULES}


@pytest.fixture
def directory(tmp_path: Path) -> CheckpointDirectory:
    path = tmp_path / "checkpoints"
    path.mkdir()
    return CheckpointDirectory(path)


@pytest.fixture(params=[False, True], ids=["together", "separately"])
def separately(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def write(
    directory: CheckpointDirectory, timestep: int, *, separately: bool = False, score: float | None = None, **keep: Any
) -> None:
    metadata: dict[str, Any] = {"timestep": timestep, "modules": list(MODULES), "time": timestep / 2, "resume": {}}
    if score is not None:
        metadata["metric"] = {"tag": TAG, "value": score}
    retention = Retention(**{"keep_last": None, "keep_every": None, "keep_best": 1, "mode": "max", **keep})
    store: CheckpointStore = stores()[".pt"]
    told = CheckpointMetadata.of(metadata)
    directory.write(STATE, told, store, separately=separately, best=score is not None, retention=retention)


def foreign(directory: CheckpointDirectory, name: str, **metadata: Any) -> None:
    """Write a file as another tool, or `keepfast.save`, does."""
    PtStore().save(Checkpoint({"w": np.zeros(2)}, metadata), directory.path / name)


def latest(directory: CheckpointDirectory) -> list[int | None]:
    return [checkpoint.timestep for checkpoint in directory.newest_first(best=False) if not checkpoint.best]


def names(directory: CheckpointDirectory) -> set[str]:
    return {path.name for path in directory.path.iterdir()} - {"index.json"}


@pytest.mark.parametrize("content", [None, "", "[]"])
def test_a_lost_index_is_made_again_with_everything_it_said(
    directory: CheckpointDirectory, separately: bool, content: str | None
) -> None:
    """Scores, digests, times, and that the files are ours: all of it stands in the files."""
    for timestep in (100, 200):
        write(directory, timestep, separately=separately)
        write(directory, timestep, separately=separately, score=float(timestep), keep_best=2)
    before = read_index(directory.path)
    index = directory.path / "index.json"
    index.unlink() if content is None else index.write_text(content)
    assert directory.best_score("max", TAG) == 200.0
    directory.adopt()
    assert read_index(directory.path) == before
    assert directory.best_score("max", TAG) == 200.0


def test_a_lost_index_does_not_disable_retention(directory: CheckpointDirectory, separately: bool) -> None:
    """Also where it is lost while training goes on: the next write takes the files in first."""
    for timestep in (100, 200):
        write(directory, timestep, separately=separately)
    write(directory, 200, separately=separately, score=5.0)
    best = {name for name in names(directory) if name.startswith("best")}
    (directory.path / "index.json").unlink()
    write(directory, 300, separately=separately, keep_last=1)
    assert {name for name in names(directory) if not name.startswith("best")} == (
        {"policy_300.pt", "critic_1_300.pt"} if separately else {"agent_300.pt"}
    )
    assert names(directory) >= best


def test_a_better_one_is_kept_where_the_index_was_lost(directory: CheckpointDirectory, separately: bool) -> None:
    """Of two bests the worse goes, whether or not the index knew of the better."""
    write(directory, 100, separately=separately, score=9.0, keep_best=2)
    (directory.path / "index.json").unlink()
    write(directory, 200, separately=separately, score=1.0, keep_best=2)
    assert directory.best_score("max", TAG) == 9.0
    assert len(read_index(directory.path)) == 2


def test_a_whole_index_costs_no_reading(
    directory: CheckpointDirectory, separately: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all is listed, nothing is read and nothing written."""
    write(directory, 100, separately=separately)
    write(directory, 100, separately=separately, score=1.0)
    before = (directory.path / "index.json").stat()
    monkeypatch.setattr(PtStore, "read", lambda *_: pytest.fail("a file was read"))
    directory.adopt()
    after = (directory.path / "index.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_adopting_makes_no_directory(tmp_path: Path) -> None:
    """A run that has stored nothing yet has none."""
    CheckpointDirectory(tmp_path / "none").adopt()
    assert list(tmp_path.iterdir()) == []


def test_an_incomplete_set_is_not_taken_in(directory: CheckpointDirectory) -> None:
    """It would count as a checkpoint and push out one that can be loaded."""
    write(directory, 100, separately=True)
    write(directory, 200, separately=True)
    (directory.path / "index.json").unlink()
    (directory.path / "policy_200.pt").unlink()
    directory.adopt()
    assert [checkpoint.timestep for checkpoint in read_index(directory.path)] == [100]
    write(directory, 300, separately=True, keep_last=2)
    assert [checkpoint.timestep for checkpoint in read_index(directory.path)] == [100, 300]


def test_files_of_two_saves_of_one_timestep_are_not_taken_in(directory: CheckpointDirectory, tmp_path: Path) -> None:
    """They fit by their names and make no checkpoint, which would count as one and push out another."""
    other = CheckpointDirectory(tmp_path / "other")
    for each in (directory, other):
        write(each, 100, separately=True)
    (other.path / "policy_100.pt").replace(directory.path / "policy_100.pt")
    (directory.path / "index.json").unlink()
    directory.adopt()
    assert read_index(directory.path) == []


def test_what_was_abandoned_stays_so_when_the_index_is_rebuilt(directory: CheckpointDirectory) -> None:
    """Training went on from before it, which the files themselves do not tell."""
    for timestep in (100, 200):
        write(directory, timestep)
    directory.supersede(100)
    rebuild(directory.path)
    assert [found.superseded for found in read_index(directory.path)] == [False, True]
    assert latest(directory) == [100]


def test_a_file_that_was_replaced_is_looked_at_again(directory: CheckpointDirectory) -> None:
    """What it held before is of no account, also where the new one is of the same size."""
    for timestep in (100, 200):
        foreign(directory, "best_policy.pt", timestep=timestep, resume={}, modules=["policy"], module="policy")
        assert [found.timestep for found in directory.checkpoints()] == [timestep]


@pytest.mark.parametrize("listed", [True, False], ids=["index", "no index"])
def test_files_that_end_in_a_number_are_not_checkpoints_for_that(
    directory: CheckpointDirectory, separately: bool, listed: bool
) -> None:
    """Neither other tools' files nor those of `keepfast.save` stand in the way of a resume, nor are they removed."""
    write(directory, 100, separately=separately)
    if not listed:
        (directory.path / "index.json").unlink()
    foreign(directory, "plot_900.pt")
    foreign(directory, "policy_901.pt", module="module", modules=["module"])
    foreign(directory, "best_model.pt")
    (directory.path / "broken_902.pt").write_bytes(b"x")
    (directory.path / "table_903.csv").write_bytes(b"x")
    (directory.path / "directory_904.pt").mkdir()
    assert latest(directory) == [100]
    assert [checkpoint.timestep for checkpoint in directory.newest_first(best=True)] == []
    write(directory, 200, separately=separately, keep_last=1)
    assert len(names(directory) & {"plot_900.pt", "policy_901.pt", "best_model.pt", "broken_902.pt"}) == 4


def test_files_of_single_modules_are_checkpoints_where_nothing_else_is(directory: CheckpointDirectory) -> None:
    """The directory of another tool that stores modules separately can be resumed from, and keeps its files."""
    for name in ("policy_100.pt", "value_100.pt", "policy_200.pt", "value_200.pt", "best_policy.pt"):
        foreign(directory, name)
    assert latest(directory) == [200, 100]
    assert set(directory.read(next(directory.newest_first(best=False))).modules) == {"policy", "value"}
    assert not any(checkpoint.own for checkpoint in directory.checkpoints())
    foreign(directory, "agent_50.pt")
    assert latest(directory) == [50]


def test_the_best_of_a_module_whose_name_ends_in_a_number_is_one_of_no_timestep(directory: CheckpointDirectory) -> None:
    """`best_critic_1` belongs to `best_policy` where there is a module `critic_1`, whoever wrote the files."""
    for name in ("policy_100.pt", "critic_1_100.pt", "best_policy.pt", "best_critic_1.pt"):
        foreign(directory, name)
    (best,) = directory.newest_first(best=True)
    assert (best.timestep, best.names) == (None, {"best_policy.pt", "best_critic_1.pt"})


def test_a_renamed_checkpoint_is_loaded_but_not_ours_to_remove(directory: CheckpointDirectory) -> None:
    """Whoever gives it another number keeps it for a reason."""
    write(directory, 100)
    (directory.path / "agent_100.pt").rename(directory.path / "agent_777.pt")
    directory.adopt()
    assert latest(directory) == [777]
    for timestep in (800, 900):
        write(directory, timestep, keep_last=1)
    assert names(directory) == {"agent_777.pt", "agent_900.pt"}


@pytest.mark.parametrize(
    "told",
    [
        {"timestep": "100"},
        {"modules": 5},
        {"metric": {"tag": TAG, "value": "high"}},
        {"metric": 3},
        {"time": None},
        {"module": 4},
        {"timestep": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["agent_100.pt", "policy_100.pt", "best_agent.pt", "best_policy.pt"])
def test_metadata_that_makes_no_sense_is_no_obstacle(
    directory: CheckpointDirectory, name: str, told: dict[str, Any]
) -> None:
    """Nothing a file says of itself keeps the directory from being read."""
    foreign(directory, name, **{"timestep": 100, "resume": {}, "modules": ["policy"], **told})
    write(directory, 50)
    directory.adopt()
    assert directory.best_score("max", TAG) is None
    assert 50 in latest(directory)


def test_a_damaged_file_of_a_set_belongs_to_it(directory: CheckpointDirectory) -> None:
    """Its set is passed over as damaged, not read without it."""
    write(directory, 100, separately=True)
    write(directory, 200, separately=True)
    (directory.path / "critic_1_200.pt").write_bytes(b"x")
    (directory.path / "index.json").unlink()
    newest = next(directory.newest_first(best=False))
    assert newest.names == {"policy_200.pt", "critic_1_200.pt"}
    with pytest.raises(keepfast.CorruptCheckpoint):
        directory.read(newest)


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own there")
def test_behind_a_link_to_itself_there_is_nothing(tmp_path: Path) -> None:
    """As where there is no directory."""
    (tmp_path / "checkpoints").symlink_to("checkpoints")
    assert CheckpointDirectory(tmp_path / "checkpoints").checkpoints() == []
