"""The `.pickle` format, an older layout of JAX agents: a pickled dict of Flax's bytes, read without running a pickle.

A file of a whole agent is a pickle of ``{module name: flax.serialization.to_bytes(state)}``, a file of one module the
pickle of its bytes. A model that is saved by itself is Flax's bytes alone, under the same name, as libraries of that
layout do it; what a file is, is told by its content. Pickles of ours begin with a marker that unpicklers skip, and
behind the pickle, where they no longer read, stands the trailer (see `keepfast.formats.files.trailer`).
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, final

from keepfast._system.disk.checksum import Summed
from keepfast.codec import check_leaves
from keepfast.formats.checkpoints.msgpack import is_flax, is_ours, read_flax, write_flax
from keepfast.formats.files.flax_bytes import Piece, pieces, restore
from keepfast.formats.files.sealed import Damage, verified
from keepfast.formats.files.trailer import read_with_trailer, write_with_trailer
from keepfast.interfaces.checkpoint_store import SINGLE, Checkpoint, CheckpointStore
from keepfast.pickles.machine import safe_load
from keepfast.tree import Tree

_PROTOCOL = pickle.PROTO + b"\4"
_MARKER = _PROTOCOL + pickle.SHORT_BINUNICODE + b"\x08keepfast" + pickle.POP


@final
class PickleStore(CheckpointStore):
    """Keeps checkpoints in the older layout, without ever unpickling anything but dicts, strings, numbers and bytes."""

    extension = ".pickle"

    def write(self, checkpoint: Checkpoint, file: BinaryIO) -> Summed | None:
        """Write a checkpoint; the names of the modules become strings for readers of the older layout."""
        if checkpoint.about.module == SINGLE:
            return write_flax(checkpoint, file)
        one_module = checkpoint.about.module is not None or not isinstance(checkpoint.state, Mapping)
        value = _bytes(checkpoint.state, "") if one_module else _dict_of_bytes(checkpoint.state)
        return write_with_trailer(file, checkpoint, chain([_MARKER], value, [pickle.STOP]), lambda _length: b"")

    def check(self, state: Tree) -> None:
        """Check the kind of each leaf."""
        check_leaves(state)

    def wrote(self, path: Path) -> bool:
        """Say whether a file has our trailer, or is Flax's bytes with our introduction."""
        return is_ours(path)

    def read(self, path: Path) -> Checkpoint:
        """Read and verify a file of this format; one of another tool gives maps, nothing to verify them."""
        with verified(path) as file:
            return read_with_trailer(file) or _read_foreign(file)


def _dict_of_bytes(modules: Mapping[Any, Tree]) -> Iterator[Piece]:
    yield pickle.EMPTY_DICT + pickle.MARK
    for name, state in modules.items():
        encoded = str(name).encode("utf-8", "surrogatepass")
        yield pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded
        yield from _bytes(state, str(name))
    yield pickle.SETITEMS


def _bytes(state: Tree, path: str) -> Iterator[Piece]:
    """Yield the pickle of Flax's bytes of a state."""
    parts = list(pieces(state, path))
    length = sum(len(part) if isinstance(part, bytes) else part[1].nbytes for part in parts)
    yield pickle.BINBYTES8 + struct.pack("<Q", length)
    yield from parts


def _read_foreign(file: BinaryIO) -> Checkpoint:
    """Return the checkpoint of another tool, told by its content: Flax's bytes, or a pickle of them."""
    file.seek(0)
    return read_flax(file) if is_flax(file.read(2)) else _read_older(file)


def _read_older(file: BinaryIO) -> Checkpoint:
    file.seek(0)
    if file.read(len(_MARKER)) == _MARKER:
        raise Damage("ending", "is not what was written")
    file.seek(0)
    return Checkpoint(_restored(safe_load(file, {})))


def _restored(value: Any) -> Tree:
    if isinstance(value, bytes):
        return restore(value)
    if isinstance(value, dict):
        return {name: _restored(part) for name, part in value.items()}
    return value
