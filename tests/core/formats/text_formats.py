"""Formats of a third party in a single file, the smallest that keep the contracts: text, under one digest.

They import nothing of Keepfast but what is public.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, BinaryIO, final

import keepfast


def sealed(document: Any) -> bytes:
    """Return a document as text behind its digest."""
    text = keepfast.codec.dumps(document).encode()
    return b"%08x" % zlib.crc32(text) + text


def opened(path: Path) -> Any:
    """Return the document of a file; raises anything where it is none."""
    content = path.read_bytes()
    if content[:8] != b"%08x" % zlib.crc32(content[8:]):
        raise ZeroDivisionError("the digest is another one")
    return keepfast.codec.loads(content[8:])


@final
class TextStore(keepfast.CheckpointStore):
    """Keeps checkpoints as text."""

    extension = ".text"

    def write(self, checkpoint: keepfast.Checkpoint, file: BinaryIO) -> None:
        file.write(sealed({"state": checkpoint.state, "metadata": dict(checkpoint.metadata)}))

    def read(self, path: Path) -> keepfast.Checkpoint:
        return keepfast.Checkpoint(**opened(path))


@final
class TextExporter(keepfast.MemoryExporter):
    """Keeps memories as text."""

    extension = ".text"

    def write(self, snapshot: keepfast.MemorySnapshot, file: BinaryIO) -> None:
        names = ("tensors", "memory_index", "env_index", "filled", "metadata")
        file.write(sealed({name: getattr(snapshot, name) for name in names}))

    def read(self, path: Path) -> keepfast.MemorySnapshot:
        return keepfast.MemorySnapshot(**opened(path))
