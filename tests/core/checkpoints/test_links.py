"""Symbolic links where checkpoints belong: they are replaced themselves, and what they lead to stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepfast.checkpoints import segments
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import INDEX, read_index
from keepfast.checkpoints.verification import verify
from tests.core.checkpoints.test_directory import write
from tests.hostile.training import contents, train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need a right of their own there")


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
@pytest.mark.parametrize("separately", [True, False])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_link_is_replaced_and_not_what_it_leads_to(
    tmp_path: Path, suffix: str, separately: bool, there: bool
) -> None:
    """Of each name that a checkpoint has, the best and the index among them."""
    reference = CheckpointDirectory(tmp_path / "reference")
    write(reference, 5, score=1.0, separately=separately, suffix=suffix)
    names = [path.name for path in reference.path.iterdir()]
    assert INDEX in names
    directory = CheckpointDirectory(tmp_path / "checkpoints")
    directory.path.mkdir()
    for name in names:
        (outside := tmp_path / f"outside_{name}").write_bytes(b"of somebody else")
        (directory.path / name).symlink_to(outside)
        if not there:
            outside.unlink()
    write(directory, 5, score=1.0, separately=separately, suffix=suffix)
    assert sorted(path.name for path in directory.path.iterdir() if not path.is_symlink()) == sorted(names)
    assert [verdict.problem for verdict in verify(directory.path)] == [None] * (len(names) - 1)
    for outside in (tmp_path / f"outside_{name}" for name in names):
        assert outside.exists() == there
        assert not there or outside.read_bytes() == b"of somebody else"


def test_the_rows_of_another_run_are_not_swept(tmp_path: Path, net: Callable[..., Any]) -> None:
    """A link in the place of a memory's log leads to segments that no checkpoint here needs, which stay."""
    train(tmp_path, net(1), 4)
    checkpoints, others = tmp_path / "run" / "checkpoints", tmp_path / "others"
    others.mkdir()
    for name in ("segment_5_00000000.safetensors", ".segment_5_00000000.safetensors.0123456789ab.keepfast-tmp"):
        (others / name).write_bytes(next(checkpoints.glob("agent_*")).read_bytes())
    (checkpoints / f"memory{segments.LOG}").symlink_to(others)
    before = contents(others)
    directory = CheckpointDirectory(checkpoints)
    directory.sweep()
    directory.adopt()
    train(tmp_path, net(1), 6)
    assert contents(others) == before


def test_a_link_that_a_row_names_is_removed_only_where_it_is_ours(tmp_path: Path, net: Callable[..., Any]) -> None:
    """Somebody's own link to notes stays, whatever the index says of it."""
    train(tmp_path, net(1), 4)
    checkpoints = tmp_path / "run" / "checkpoints"
    (tmp_path / "own").write_text("own")
    (checkpoints / "notes_1.txt").symlink_to(tmp_path / "own")
    document = json.loads((checkpoints / "index.json").read_text())
    row = next(row for row in document["checkpoints"] if not row["best"])
    forged = {"notes": {"name": "notes_1.txt", "size": 1, "digest": ""}}
    document["checkpoints"].insert(0, {**row, "timestep": 1, "files": forged})
    (checkpoints / "index.json").write_text(json.dumps(document))
    assert any("notes_1.txt" in each.names for each in read_index(checkpoints))
    train(tmp_path, net(1), 8)
    assert (checkpoints / "notes_1.txt").read_text() == "own"
