"""Symbolic links where checkpoints belong: they are replaced themselves, and what they lead to stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import INDEX
from keepfast.checkpoints.verification import verify
from tests.core.checkpoints.test_directory import write

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
