"""Verifying a run: nothing that a resume would stumble over is called good."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import keepfast
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.retention import Retention
from keepfast.checkpoints.verification import verify
from keepfast.cli import app
from keepfast.interfaces.checkpoint_store import CheckpointMetadata
from keepfast.plugins.formats import stores


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run with two checkpoints whose modules are stored separately."""
    directory = CheckpointDirectory(tmp_path / "run" / "checkpoints")
    for timestep in (100, 200):
        metadata = CheckpointMetadata(timestep=timestep, modules=("policy", "value"), resume={})
        state = {name: {"w": np.full(2, timestep)} for name in ("policy", "value")}
        keep = Retention(None, None, 1, "max")
        directory.write(state, metadata, stores()[".pt"], separately=True, best=False, retention=keep)
    return tmp_path / "run"


def problems(run: Path) -> list[str]:
    return [verdict.problem for verdict in verify(run) if verdict.problem is not None]


def exit_code(run: Path) -> int:
    return CliRunner().invoke(app, ["verify", str(run)]).exit_code


def test_a_run_as_it_was_written_is_good(run: Path) -> None:
    """One verdict for each file, and no more."""
    assert [verdict.path.name for verdict in verify(run)] == [
        "policy_100.pt",
        "value_100.pt",
        "policy_200.pt",
        "value_200.pt",
    ]
    assert problems(run) == []
    assert exit_code(run) == 0


def test_listed_files_that_are_gone_are_told(run: Path) -> None:
    """Each by its name, also where a checkpoint has none left."""
    for name in ("policy_100.pt", "value_100.pt", "value_200.pt"):
        (run / "checkpoints" / name).unlink()
    gone = [f"{name}` is listed in the index but is not there" for name in ("policy_100.pt", "value_100.pt")]
    assert [problem.rpartition("/")[2] for problem in problems(run)] == [
        *gone,
        "value_200.pt` is listed in the index but is not there",
    ]
    assert exit_code(run) == 1


@pytest.mark.parametrize("content", ["garbage", '{"checkpoints": [{"files": 3}]}'])
def test_an_index_that_cannot_be_read_is_told(run: Path, content: str) -> None:
    """The files are verified all the same; without an index there is nothing wrong."""
    index = run / "checkpoints" / "index.json"
    index.write_text(content)
    assert [problem.partition("`")[2].partition("`")[0] for problem in problems(run)] == [str(index)]
    assert len(list(verify(run))) == 5
    assert exit_code(run) == 1
    index.unlink()
    assert exit_code(run) == 0


def test_a_run_of_nothing_but_a_broken_index_is_told(tmp_path: Path) -> None:
    """It is not that there was never a checkpoint."""
    (tmp_path / "index.json").write_text("garbage")
    assert len(problems(tmp_path)) == 1
    (tmp_path / "index.json").unlink()
    with pytest.raises(keepfast.NotFound, match="no checkpoint to verify"):
        list(verify(tmp_path))


def test_a_set_that_is_incomplete_is_told(run: Path) -> None:
    """Without an index its other files alone would look good."""
    (run / "checkpoints" / "index.json").unlink()
    (run / "checkpoints" / "value_200.pt").unlink()
    (problem,) = problems(run)
    assert problem.endswith("policy_200.pt` belongs with files of value, which are not there")
    assert exit_code(run) == 1


def test_a_set_of_files_that_do_not_belong_together_is_told(run: Path) -> None:
    """Each of them is whole, and together they are no checkpoint."""
    checkpoints = run / "checkpoints"
    (checkpoints / "index.json").unlink()
    (checkpoints / "value_100.pt").replace(checkpoints / "value_200.pt")
    assert any("is of timestep 100, but" in problem for problem in problems(run))
    assert exit_code(run) == 1


def test_a_file_in_the_place_of_another_is_told(run: Path) -> None:
    """It is whole, but not the one that was written there."""
    checkpoints = run / "checkpoints"
    (checkpoints / "value_100.pt").replace(checkpoints / "value_200.pt")
    assert any("not the file that the index lists under this name" in problem for problem in problems(run))
    assert exit_code(run) == 1


def test_what_retention_was_removing_is_not_missed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill amid the removal leaves it listed, in part or whole; the next removal ends it."""
    directory = CheckpointDirectory(run / "checkpoints")

    def write(timestep: int) -> None:
        metadata = CheckpointMetadata(timestep=timestep, modules=("policy",), resume={})
        keep = Retention(1, None, 1, "max")
        state = {"policy": {"w": np.ones(2)}}
        directory.write(state, metadata, stores()[".pt"], separately=True, best=False, retention=keep)

    def killed(self: CheckpointDirectory, names: Iterable[str]) -> None:
        (self.path / min(name for name in names if name.startswith("policy"))).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointDirectory, "_remove", killed)
        with pytest.raises(KeyboardInterrupt):
            write(300)
    assert not (run / "checkpoints" / "policy_100.pt").exists()
    assert problems(run) == []
    write(400)
    assert [path.name for path in sorted(directory.path.glob("*.pt"))] == ["policy_400.pt"]
    assert problems(run) == []
