"""The `.pt` format: what ``torch.save`` writes and ``torch.load(weights_only=True)`` reads, with or without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, final

from keepfast._system.disk.checksum import Summed
from keepfast.formats.files.sealed_zip import is_sealed_zip
from keepfast.formats.files.torch_archive import read_archive, write_archive
from keepfast.formats.files.torch_pickle import TreePickler
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.tree import Tree


@final
class PtStore(CheckpointStore):
    """Keeps checkpoints as PyTorch does; the dtypes are PyTorch's."""

    extension = ".pt"

    def write(self, checkpoint: Checkpoint, file: BinaryIO) -> Summed | None:
        """Write a checkpoint; arrays that share memory are stored once and share it again when PyTorch loads them."""
        return write_archive(file, checkpoint.state, checkpoint.metadata)

    def check(self, state: Tree) -> None:
        """Check the kind of each leaf, and that PyTorch has its dtype."""
        TreePickler().dumps(state)

    def wrote(self, path: Path) -> bool:
        """Say whether a file has our seal at its end."""
        return is_sealed_zip(path)

    def read(self, path: Path) -> Checkpoint:
        """Read and verify a file of this format or of ``torch.save``, which may hold state dicts but no code."""
        state, metadata = read_archive(path)
        return Checkpoint(state, metadata)
