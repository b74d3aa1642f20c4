"""What a memory file holds beside its tensors: the same document in every format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast import codec
from holdfast.errors import CorruptMemory
from holdfast.memory import MemorySnapshot

FORMAT_VERSION = 1
"""The version of the document; raised when a reader of today could misread it."""


def header_of(snapshot: MemorySnapshot) -> dict[str, Any]:
    """Return the document of a snapshot, for `holdfast.codec`."""
    return {
        "format_version": FORMAT_VERSION,
        "memory_size": snapshot.memory_size,
        "num_envs": snapshot.num_envs,
        "memory_index": snapshot.memory_index,
        "env_index": snapshot.env_index,
        "filled": snapshot.filled,
        "tensors": {
            name: {"dtype": str(tensor.dtype), "size": list(tensor.shape[2:])}
            for name, tensor in snapshot.tensors.items()
        },
        "metadata": dict(snapshot.metadata),
    }


def header_text(snapshot: MemorySnapshot) -> bytes:
    """Return the document of a snapshot as one line of JSON."""
    header = header_of(snapshot)
    return json.dumps({**header, "metadata": codec.encode(header["metadata"])}, separators=(",", ":")).encode()


def header_from(text: bytes) -> dict[str, Any]:
    """Return the document of `header_text`.

    Raises:
        ValueError: if the text is no such document.
    """
    header = json.loads(text)
    if not isinstance(header, dict) or not {"tensors", "metadata"} <= header.keys():
        raise ValueError("no document of a memory")
    return {**header, "metadata": codec.decode(header["metadata"])}


def plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype that every reader knows: itself, or for those of `ml_dtypes` the integer of the same bits."""
    return dtype if dtype.isbuiltin == 1 else np.dtype(f"u{dtype.itemsize}")


def check_version(header: Mapping[str, Any], path: Path) -> None:
    """Check that a document is one this version understands.

    Raises:
        CorruptMemory: if it is of a later version.
    """
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CorruptMemory(
            f"`{path}` is of the memory format version {version}; this Holdfast reads {FORMAT_VERSION}, so update it"
        )


def snapshot_from(tensors: Mapping[str, NDArray[Any]], header: Mapping[str, Any], path: Path) -> MemorySnapshot:
    """Return the snapshot of verified tensors and their document; one of another tool, without document, is full.

    Raises:
        CorruptMemory: if the two disagree, or the tensors are not those of a memory.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if any(len(shape) < 2 for shape in shapes.values()) or len({shape[:2] for shape in shapes.values()}) > 1:
        raise CorruptMemory(
            f"`{path}` holds no memory: its tensors do not share the shape (memory_size, num_envs, ...): {shapes}"
        )
    if not header:
        return MemorySnapshot(dict(tensors), 0, 0, filled=True)
    check_version(header, path)
    sizes = header["memory_size"], header["num_envs"]
    expected = {name: (*sizes, *tensor["size"]) for name, tensor in header["tensors"].items()}
    if shapes != expected:
        raise CorruptMemory(f"`{path}` is damaged: its tensors have the shapes {shapes} where {expected} were written")
    position = header["memory_index"], header["env_index"], header["filled"]
    return MemorySnapshot({name: tensors[name] for name in expected}, *position, header["metadata"])
