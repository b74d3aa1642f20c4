"""Memories as PyTorch files: a dictionary of tensors for `torch.load`, written and read without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, ClassVar, final

import numpy as np

from keepfast.errors import CorruptMemory
from keepfast.formats.files.torch_archive import read_archive, write_archive
from keepfast.formats.memories.header import header_of, snapshot_from
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot


@final
class PtExporter(MemoryExporter):
    """Writes what ``torch.load(path, weights_only=True)`` gives as name -> tensor of (memory_size, num_envs, *size)."""

    extension: ClassVar[str] = ".pt"

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:  # noqa: D102  (the interface's)
        write_archive(file, dict(snapshot.tensors), header_of(snapshot))

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        tensors, header = read_archive(path, CorruptMemory, mapped=True)
        if not isinstance(tensors, dict) or not all(isinstance(tensor, np.ndarray) for tensor in tensors.values()):
            raise CorruptMemory(f"`{path}` holds no memory: a memory is a dictionary of tensors")
        return snapshot_from(tensors, header, path)
