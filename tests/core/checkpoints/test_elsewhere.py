"""Checkpoints that an index lists and that are on an object store alone."""

from __future__ import annotations

import json
from pathlib import Path

import keepfast
from keepfast._system.remote.record import Part, Record
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.retention import Retention
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.interfaces.checkpoint_store import CheckpointMetadata


def write(directory: CheckpointDirectory, timestep: int, keep_last: int) -> None:
    about = CheckpointMetadata(timestep=timestep, modules=("policy",), keepfast="0", format_version=1, resume={})
    retention = Retention(keep_last=keep_last, keep_every=None, keep_best=1, mode="max")
    directory.write({"policy": {}}, about, SafetensorsStore(), separately=False, best=False, retention=retention)


def test_what_is_only_on_a_store_is_listed_and_stays_listed(tmp_path: Path) -> None:
    """As long as retention keeps it; what is on no store, and not here, goes from the index with the next write."""
    directory = CheckpointDirectory(tmp_path / "run" / "checkpoints")
    for timestep in (1, 2, 3):
        write(directory, timestep, 9)
    for timestep in (1, 2):
        (directory.path / f"agent_{timestep}.safetensors").unlink()
    Record(parts={"checkpoints/agent_2.safetensors": Part()}).store(tmp_path / "run")
    assert [each.timestep for each in directory.checkpoints()] == [2, 3]
    write(directory, 4, 9)
    rows = json.loads((directory.path / "index.json").read_text())["checkpoints"]
    assert [row["timestep"] for row in rows] == [2, 3, 4]
    write(directory, 5, 2)
    assert [each.timestep for each in directory.checkpoints()] == [4, 5]
    assert keepfast.read_checkpoint(directory.path / "agent_5.safetensors").about.timestep == 5
