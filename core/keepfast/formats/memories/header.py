"""What a memory file holds beside its tensors: the same document in every format."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast import codec
from keepfast.errors import CorruptMemory
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import Ring
from keepfast.tree import Tree

FORMAT_VERSION = 1
"""The version of the document; raised when a reader of today could misread it."""


_SAMPLES, _SAMPLES_IN_A_BYTE = 1 << 20, 1100
"""How many samples a file may tell of, at the least and by its size: deflate makes 1032 zeros a byte."""


def header_of(snapshot: MemorySnapshot) -> dict[str, Any]:
    """Return the document of a snapshot, for `keepfast.codec`."""
    return {
        "format_version": FORMAT_VERSION,
        **asdict(snapshot.ring),
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


def ring_of(header: Mapping[str, Any]) -> Ring:
    """Return where the samples of a memory lie, by its document; see `check_header`."""
    return Ring(**{field.name: header[field.name] for field in fields(Ring)})


def flat_tensors(snapshot: MemorySnapshot) -> dict[str, NDArray[Any]]:
    """Return each tensor as a table: of shape (memory_size * num_envs, numbers in a sample)."""
    samples = snapshot.ring.capacity
    return {name: tensor.reshape(samples, math.prod(tensor.shape[2:])) for name, tensor in snapshot.tensors.items()}


def plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype that every reader knows: itself, or for those of `ml_dtypes` the integer of the same bits."""
    return dtype if dtype.isbuiltin == 1 else np.dtype(f"u{dtype.itemsize}")


def check_header(header: Mapping[str, Any], path: Path) -> None:
    """Check that a document is one this version understands, and tells of a memory.

    Raises:
        CorruptMemory: if it is of a later version, or its sizes and positions are none.
    """
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CorruptMemory(
            f"`{path}` is of the memory format version {version}; this Keepfast reads {FORMAT_VERSION}, so update it"
        )
    for name, (lowest, limit) in _limits(header).items():
        value = header.get(name)
        if type(value) is not int or not lowest <= value < limit:
            raise CorruptMemory(f"`{path}` is damaged: its `{name}` is {value!r}")
    _check_rows(header["memory_size"] * header["num_envs"], path)
    if type(header.get("filled")) is not bool or not all(map(_describes, header["tensors"].values())):
        raise CorruptMemory(f"`{path}` is damaged: its header does not describe a memory")


def _check_rows(samples: int, path: Path) -> None:
    """Check that a file is large enough for so many samples: a memory has a few numbers for each, as a rule."""
    if samples > _SAMPLES + path.stat().st_size * _SAMPLES_IN_A_BYTE:
        raise CorruptMemory(f"`{path}` is damaged: it tells of {samples:,} samples, which it is too small for")


def _limits(header: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the lowest allowed value of each number, and the one beyond the highest."""
    sizes = {name: header.get(name) for name in ("memory_size", "num_envs")}
    rows, envs = (size if type(size) is int else 0 for size in sizes.values())
    anything = 1 << 62
    return {"memory_size": (0, anything), "num_envs": (0, anything)} | {
        "memory_index": (0, max(rows, 1)),
        "env_index": (0, max(envs, 1)),
    }


def _describes(tensor: Any) -> bool:
    size = tensor.get("size") if isinstance(tensor, dict) else None
    return isinstance(size, list) and all(type(side) is int and side >= 0 for side in size)


def tensors_of(tree: Tree, path: Path) -> dict[str, NDArray[Any]]:
    """Return what a file holds as the tensors of a memory.

    Raises:
        CorruptMemory: if it is anything but a dictionary of tensors.
    """
    if not isinstance(tree, dict) or not all(isinstance(tensor, np.ndarray) for tensor in tree.values()):
        raise CorruptMemory(f"`{path}` holds no memory: a memory is a dictionary of tensors")
    return tree


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
        _check_rows(math.prod(next(iter(shapes.values()), (0, 0))[:2]), path)
        return MemorySnapshot({name: _native(name, tensor, path) for name, tensor in tensors.items()}, 0, 0, True)
    check_header(header, path)
    ring = ring_of(header)
    expected = {name: (ring.memory_size, ring.num_envs, *tensor["size"]) for name, tensor in header["tensors"].items()}
    if shapes != expected:
        raise CorruptMemory(f"`{path}` is damaged: its tensors have the shapes {shapes} where {expected} were written")
    return MemorySnapshot({name: tensors[name] for name in expected}, *ring.position, header["metadata"])


def _native(name: Any, tensor: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return a tensor of another tool's file in this machine's byte order."""
    numeric = tensor.dtype.kind in "biufc" or tensor.dtype.isbuiltin == 2
    if not isinstance(name, str) or not numeric:
        raise CorruptMemory(
            f"`{path}` holds no memory: `{name}` is an array of {tensor.dtype}, not a tensor of numbers"
        )
    return tensor.astype(tensor.dtype.newbyteorder("="), copy=False)
