"""Which files make one checkpoint: those that were written for it, and earlier ones that these name as unchanged."""

from __future__ import annotations

from collections.abc import Iterable

from keepfast.interfaces.checkpoint_store import CheckpointMetadata


def leading(files: Iterable[CheckpointMetadata]) -> CheckpointMetadata | None:
    """Return what a file tells that all others belong with, so that it tells of the whole; None where none does."""
    told = list(files)
    return next((one for one in told if all(_belongs(other, one) for other in told)), None)


def _belongs(other: CheckpointMetadata, one: CheckpointMetadata) -> bool:
    """Say whether a file is of the checkpoint that another was written for."""
    if other.set == one.set:
        return other.timestep == one.timestep
    return other.module is not None and other.set == (one.unchanged or {}).get(other.module)
