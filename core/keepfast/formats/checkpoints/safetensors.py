"""The `.safetensors` format: any reader of safetensors sees every array under its path, ``policy.net.0.weight``."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, final

from keepfast._system.disk.checksum import Summed
from keepfast.codec import check_leaves
from keepfast.formats.files.safetensors.container import is_ours, read_safetensors, write_safetensors
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.tree import Tree


@final
class SafetensorsStore(CheckpointStore):
    """Keeps checkpoints as safetensors; dtypes that it lacks are stored as their bytes and come back as they were."""

    extension = ".safetensors"

    def write(self, checkpoint: Checkpoint, file: BinaryIO) -> Summed | None:
        """Write a checkpoint; every array is there under its path, also where two share memory."""
        return write_safetensors(file, checkpoint.state, checkpoint.metadata)

    def check(self, state: Tree) -> None:
        """Check the kind of each leaf."""
        check_leaves(state)

    def wrote(self, path: Path) -> bool:
        """Say whether a file has our header."""
        return is_ours(path)

    def read(self, path: Path) -> Checkpoint:
        """Read and verify a file of this format; one of another tool gives a flat dict, its offsets verified."""
        return Checkpoint(*read_safetensors(path))
