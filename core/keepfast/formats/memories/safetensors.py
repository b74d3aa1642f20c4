"""Memories as safetensors: every tensor under its name, large ones memory-mapped when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, ClassVar, final

import numpy as np

from keepfast.errors import CorruptMemory
from keepfast.formats.files.safetensors import read_safetensors, write_safetensors
from keepfast.formats.memories.header import header_of, snapshot_from
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot


@final
class SafetensorsExporter(MemoryExporter):
    """Writes what any reader of safetensors gives as name -> tensor of (memory_size, num_envs, *size)."""

    extension: ClassVar[str] = ".safetensors"

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:  # noqa: D102  (the interface's)
        write_safetensors(file, dict(snapshot.tensors), header_of(snapshot))

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        tensors, header = read_safetensors(path, CorruptMemory, mapped=True)
        if not isinstance(tensors, dict) or not all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
            raise CorruptMemory(f"`{path}` holds no memory: a memory is a dictionary of tensors")
        return snapshot_from(tensors, header, path)
