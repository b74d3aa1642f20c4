"""Finds the checkpoint that a run goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.errors import NotFound
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.plugins.formats import read_checkpoint
from keepfast.runs.checkpointer import Checkpointer


@final
@dataclass(frozen=True)
class Found:
    """A checkpoint to resume from.

    Attributes:
        path: its file, or one of its files.
        checkpoint: what it holds.
        timestep: the timestep in its name, or None.
        own: whether it is one of the experiment's own.
        skipped: damaged ones that were passed over, with the reasons.
    """

    path: Path
    checkpoint: Checkpoint
    timestep: int | None
    own: bool
    skipped: Mapping[Path, str] = field(default_factory=dict)


def find(checkpointer: Checkpointer, which: str | Path) -> Found | None:
    """Return the checkpoint that `Experiment.resume` is asked for, or None where the own directory has none such.

    Raises:
        NotFound: if the given path does not exist or holds no checkpoint that can be loaded.
        CorruptCheckpoint: if the one given file is damaged.
    """
    own = checkpointer.directory
    if which in ("latest", "best"):
        some = any(True for _ in own.newest_first(best=which == "best"))
        return _find_in(checkpointer, own, str(which)) if some else None
    path = Path(which)
    if path.is_dir():
        inner = path / CHECKPOINTS
        return _find_in(checkpointer, CheckpointDirectory(inner if inner.is_dir() else path), "latest")
    if not path.exists():
        raise NotFound(f'there is nothing to resume from at `{path}`; allowed: "latest", "best", or an existing path')
    return _find_file(checkpointer, path)


def _find_in(checkpointer: Checkpointer, directory: CheckpointDirectory, which: str) -> Found:
    indexed, checkpoint, skipped = checkpointer.find(which, directory)
    own = directory.path.resolve() == checkpointer.directory.path.resolve()
    return Found(directory.path / min(indexed.names), checkpoint, indexed.timestep, own, skipped)


def _find_file(checkpointer: Checkpointer, path: Path) -> Found:
    """Return the whole checkpoint that a file belongs to, which may be one of several."""
    directory = CheckpointDirectory(path.parent)
    indexed = next((found for found in directory.checkpoints() if path.name in found.names), None)
    if indexed is None:
        return Found(path, read_checkpoint(path), None, own=False)
    own = directory.path.resolve() == checkpointer.directory.path.resolve()
    return Found(path, directory.read(indexed), indexed.timestep, own)
