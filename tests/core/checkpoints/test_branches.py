"""Training that goes on from further back: what it left ahead is abandoned, and the new branch takes its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import read_index
from keepfast.checkpoints.retention import Retention
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata, CheckpointStore
from keepfast.plugins.formats import stores

MODULES = ("policy", "critic_1")


TAG = "Reward / Total reward (mean)"


def retention(keep_last: int | None = None) -> Retention:
    return Retention(keep_last, None, 1, "max")


def write(
    directory: CheckpointDirectory,
    timestep: int,
    *,
    separately: bool = False,
    score: float | None = None,
    content: float = 0.0,
    keep: Retention | None = None,
) -> None:
    """Write a checkpoint of some content; with a score it is a best one."""
    metadata: dict[str, Any] = {"timestep": timestep, "modules": list(MODULES), "resume": {}}
    if score is not None:
        metadata["metric"] = {"tag": TAG, "value": score}
    store: CheckpointStore = stores()[".pt"]
    state, best = {name: {"w": np.full(3, content)} for name in MODULES}, score is not None
    told = CheckpointMetadata.of(metadata)
    directory.write(state, told, store, separately=separately, best=best, retention=keep or retention())


def latest(directory: CheckpointDirectory, *, best: bool = False) -> list[int | None]:
    return [checkpoint.timestep for checkpoint in directory.newest_first(best=best)]


def value(checkpoint: Checkpoint) -> set[float]:
    return {float(x) for name in MODULES for x in checkpoint.modules[name]["w"]}


def files(timestep: int, *, separately: bool) -> set[str]:
    return {f"{key}_{timestep}.pt" for key in (MODULES if separately else ("agent",))}


@pytest.fixture
def directory(tmp_path: Path) -> CheckpointDirectory:
    return CheckpointDirectory(tmp_path / "checkpoints")


@pytest.fixture(params=[False, True], ids=["together", "separately"])
def separately(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_an_abandoned_future_is_no_longer_the_latest(directory: CheckpointDirectory, separately: bool) -> None:
    """After a resume from further back, the latest is what the resumed training stores."""
    for timestep in (100, 200, 300):
        write(directory, timestep, separately=separately)
    directory.supersede(100)
    assert latest(directory) == [100]
    write(directory, 150, separately=separately)
    assert latest(directory) == [150, 100]
    assert [c.timestep for c in directory.checkpoints() if c.superseded] == [200, 300]


def test_the_live_branch_writes_over_the_abandoned_one(directory: CheckpointDirectory, separately: bool) -> None:
    """A timestep that is reached again replaces what was abandoned, also in the other layout."""
    for timestep in (100, 200, 300):
        write(directory, timestep, separately=separately, content=-1.0)
    directory.supersede(100)
    write(directory, 200, separately=separately, content=2.0)
    write(directory, 300, separately=not separately, content=3.0)
    assert latest(directory) == [300, 200, 100]
    assert [value(directory.read(found)) for found in directory.newest_first(best=False)] == [{3.0}, {2.0}, {-1.0}]
    assert {path.name for path in directory.path.glob("*_300.pt")} == files(300, separately=not separately)
    assert not any(checkpoint.superseded for checkpoint in directory.checkpoints())


def test_retention_removes_the_abandoned_before_the_live(directory: CheckpointDirectory, separately: bool) -> None:
    """Each goes only once a newer one of the live branch is there in its place."""
    kept = []
    for timestep in (100, 200, 300, 400):
        write(directory, timestep, separately=separately, keep=retention(keep_last=3))
    directory.supersede(200)
    for timestep in (210, 220, 230):
        write(directory, timestep, separately=separately, keep=retention(keep_last=3))
        kept.append([checkpoint.timestep for checkpoint in read_index(directory.path)])
    assert kept == [[200, 210, 400], [200, 210, 220], [210, 220, 230]]


def test_the_best_of_an_abandoned_future_remains_the_best(directory: CheckpointDirectory, separately: bool) -> None:
    """It was the best that training ever found; only a resume from the latest does not fall back to it."""
    write(directory, 100, separately=separately)
    write(directory, 300, separately=separately, score=9.0)
    directory.supersede(100)
    assert latest(directory, best=True) == [300]
    assert latest(directory) == [100]
    assert directory.best_score("max", TAG) == 9.0


def test_a_kill_before_the_abandoned_are_removed_does_not_revive_them(
    directory: CheckpointDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in the index, as abandoned, for as long as their files are there."""

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for timestep in (100, 300):
        write(directory, timestep)
    directory.supersede(100)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            write(directory, 200, keep=retention(keep_last=1))
    directory.sweep()
    assert (directory.path / "agent_300.pt").exists()
    assert latest(directory) == [200, 100]
    directory.adopt()
    assert latest(directory) == [200]


def test_another_tools_checkpoint_stays_where_the_live_branch_reaches_its_timestep(
    directory: CheckpointDirectory,
) -> None:
    """It is abandoned, and nobody but who wrote it removes it."""
    write(directory, 100)
    PtStore().save(Checkpoint({"policy": {"w": 1}}), directory.path / "agent_0200.pt")
    directory.supersede(100)
    write(directory, 200, separately=True)
    assert latest(directory) == [200, 100]
    assert (directory.path / "agent_0200.pt").exists()


def test_what_is_abandoned_is_still_found_where_nothing_else_is(directory: CheckpointDirectory) -> None:
    """A kill before the new branch has stored anything loses nothing; a directory that is not there is no error."""
    directory.supersede(0)
    assert not directory.path.exists()
    write(directory, 100)
    directory.supersede(0)
    assert latest(directory) == [100]


def test_checkpoints_that_the_index_lacks_are_abandoned_too(directory: CheckpointDirectory, separately: bool) -> None:
    """Of ours and of other tools."""
    for timestep in (100, 200):
        write(directory, timestep, separately=separately)
    (directory.path / "agent_0300.pt").write_bytes(b"another tool's")
    (directory.path / "index.json").unlink()
    directory.supersede(100)
    assert latest(directory) == [100]
