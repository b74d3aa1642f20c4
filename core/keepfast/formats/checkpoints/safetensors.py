"""The `.safetensors` format: any reader of safetensors sees every array under its path, ``policy.net.0.weight``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, final

from numpy.typing import NDArray

from keepfast import codec
from keepfast.errors import CorruptCheckpoint, CorruptFile
from keepfast.formats.files.safetensors import _free_name, _read, _write
from keepfast.formats.files.sealed import verified
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore


@final
class SafetensorsStore(CheckpointStore):
    """Keeps checkpoints as safetensors; dtypes that it lacks are stored as their bytes and come back as they were.

    Args:
        error: what to raise where a file is damaged.
        mapped: whether to memory-map large arrays, copy on write, instead of reading them.
    """

    extension = ".safetensors"

    def __init__(self, error: type[CorruptFile] = CorruptCheckpoint, *, mapped: bool = False) -> None:
        self._error, self._mapped = error, mapped

    def write(self, checkpoint: Checkpoint, file: BinaryIO) -> None:
        """Write a checkpoint; every array is there under its path, also where two share memory."""
        arrays: dict[str, NDArray[Any]] = {}

        def put(path: str, array: NDArray[Any]) -> list[str]:
            name = _free_name(path, arrays)
            arrays[name] = array
            return [name, str(array.dtype)]

        tree = codec.encode(checkpoint.state, put)
        texts = {"tree": json.dumps(tree, separators=(",", ":")), "metadata": codec.dumps(dict(checkpoint.metadata))}
        _write(file, arrays, texts)

    def read(self, path: Path) -> Checkpoint:
        """Read and verify a file of this format; one of another tool gives a flat dict, its offsets verified."""
        with verified(path, self._error, mapped=self._mapped) as file:
            return _read(file)
