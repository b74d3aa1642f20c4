"""Memories as PyTorch files: a dictionary of tensors for `torch.load`, written and read without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, ClassVar, final

from keepfast.errors import CorruptMemory
from keepfast.formats.files.torch_archive import read_archive, write_archive
from keepfast.formats.memories.header import header_of, snapshot_from, tensors_of
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot


@final
class PtExporter(MemoryExporter):
    """Writes what ``torch.load(path, weights_only=True)`` gives as name -> tensor of (memory_size, num_envs, *size)."""

    extension: ClassVar[str] = ".pt"

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:  # noqa: D102  (the interface's)
        write_archive(file, dict(snapshot.tensors), header_of(snapshot))

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        tree, header = read_archive(path, CorruptMemory, mapped=True)
        return snapshot_from(tensors_of(tree, path), header, path)
