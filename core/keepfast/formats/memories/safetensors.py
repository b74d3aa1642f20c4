"""Memories as safetensors: every tensor under its name, large ones memory-mapped when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, ClassVar, final

import numpy as np

from keepfast.errors import CorruptMemory
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.formats.memories.header import header_of, snapshot_from
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot


@final
class SafetensorsExporter(MemoryExporter):
    """Writes what any reader of safetensors gives as name -> tensor of (memory_size, num_envs, *size)."""

    extension: ClassVar[str] = ".safetensors"

    def __init__(self) -> None:
        self._store = SafetensorsStore(CorruptMemory, mapped=True)

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:  # noqa: D102  (the interface's)
        self._store.write(Checkpoint(dict(snapshot.tensors), header_of(snapshot)), file)

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        checkpoint = self._store.read(path)
        tensors = checkpoint.state
        if not isinstance(tensors, dict) or not all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
            raise CorruptMemory(f"`{path}` holds no memory: a memory is a dictionary of tensors")
        return snapshot_from(tensors, checkpoint.metadata, path)
