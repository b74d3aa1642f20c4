"""A checkpoint between its copy in memory and its file: what is promised, and what is told once it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from keepfast.checkpoints.best import Candidate
from keepfast.interfaces.checkpoint_store import CheckpointMetadata
from keepfast.interfaces.loading.memory_log import NewRows
from keepfast.tree import Tree


@final
@dataclass(frozen=True)
class Promised:
    """A copy of modules that is to be written."""

    state: Mapping[str, Tree]
    metadata: CheckpointMetadata
    candidate: Candidate | None = None
    rows: Mapping[str, NewRows] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Durable:
    """A checkpoint that is on disk.

    Attributes:
        timestep: the completed timesteps it was taken at.
        paths: its files; one, unless modules are stored separately.
        is_best: whether it is one of the best rather than a periodic one.
    """

    timestep: int
    paths: tuple[Path, ...]
    is_best: bool
