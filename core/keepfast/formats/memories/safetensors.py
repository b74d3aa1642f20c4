"""Memories as safetensors: every tensor under its name, large ones memory-mapped when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, ClassVar, final

from keepfast.errors import CorruptMemory
from keepfast.formats.files.safetensors.container import read_safetensors, write_safetensors
from keepfast.formats.memories.header import header_of, snapshot_from, tensors_of
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot


@final
class SafetensorsExporter(MemoryExporter):
    """Writes what any reader of safetensors gives as name -> tensor of (memory_size, num_envs, *size)."""

    extension: ClassVar[str] = ".safetensors"

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:  # noqa: D102  (the interface's)
        write_safetensors(file, dict(snapshot.tensors), header_of(snapshot))

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        tree, header = read_safetensors(path, CorruptMemory, mapped=True)
        return snapshot_from(tensors_of(tree, path), header, path)
