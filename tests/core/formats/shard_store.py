"""A checkpoint format of a third party whose checkpoints are directories: a file for each module, and a seal over all.

It imports nothing of Keepfast but what is public.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

import keepfast

SEAL = "seal.json"


@final
class ShardStore(keepfast.DirectoryFormat[keepfast.Checkpoint], keepfast.CheckpointStore):
    """Writes ``0.shard`` and so on, the arrays of a module each; last the seal: structure, metadata and digests."""

    extension = ".shards"
    parts = ("*.shard", SEAL)

    def fill(self, checkpoint: keepfast.Checkpoint, directory: Path) -> None:
        numbers: dict[str, int] = {}
        shards: dict[str, bytearray] = {}

        def put(path: str, array: NDArray[Any]) -> list[Any]:
            name = f"{numbers.setdefault(path.partition('.')[0], len(numbers))}.shard"
            data, shard = keepfast.codec.array_bytes(array), shards.setdefault(name, bytearray())
            start = len(shard)
            shard += data
            return [path, name, start, len(shard), zlib.crc32(data), str(array.dtype), list(array.shape)]

        state, metadata = keepfast.codec.encode(checkpoint.state, put), keepfast.codec.encode(dict(checkpoint.metadata))
        sizes = {name: len(shard) for name, shard in shards.items()}
        text = json.dumps({"state": state, "metadata": metadata, "sizes": sizes}).encode()
        for name, shard in shards.items():
            (directory / name).write_bytes(shard)
        (directory / SEAL).write_bytes(b"%08x" % zlib.crc32(text) + text)

    def read(self, path: Path) -> keepfast.Checkpoint:
        if path.is_dir() and not (path / SEAL).exists():
            raise keepfast.CorruptCheckpoint(f"`{path}` is damaged: it was never sealed")
        content = (path / SEAL).read_bytes()
        if content[:8] != b"%08x" % zlib.crc32(content[8:]):
            raise keepfast.CorruptCheckpoint(f"`{path / SEAL}` is damaged: it is not what was written")
        seal = json.loads(content[8:])
        sizes = {file.name: file.stat().st_size for file in path.iterdir() if file.name != SEAL}
        if sizes != seal["sizes"]:
            raise keepfast.CorruptCheckpoint(f"`{path}` is damaged: it holds {sizes}, and {seal['sizes']} was written")

        def get(stored: Any) -> NDArray[Any]:
            entry, name, start, end, digest, dtype, shape = stored
            data = np.fromfile(path / name, np.uint8, end - start, offset=start)
            if zlib.crc32(data) != digest:
                raise keepfast.CorruptCheckpoint(f"`{path / name}` is damaged: `{entry}` is not what was written")
            return keepfast.codec.array_from_bytes(data, dtype, tuple(shape))

        return keepfast.Checkpoint(keepfast.codec.decode(seal["state"], get), keepfast.codec.decode(seal["metadata"]))


@keepfast.hookimpl
def keepfast_checkpoint_formats() -> Mapping[str, Callable[[], keepfast.CheckpointStore]]:
    return {"shards": ShardStore}


plugin = SimpleNamespace(keepfast_checkpoint_formats=keepfast_checkpoint_formats)
"""What a distribution's entry point names."""
