"""The `.msgpack` format: Flax's bytes. ``flax.serialization.msgpack_restore`` reads it, and it reads those of Flax.

What is known beside the modules (see `keepfast.formats.files.trailer`) is a text under the first key of the outer map,
and that key stands in it once more, with its own value, which is the one that readers of MessagePack give. So Flax
restores the keys of the state and no other; only a state without any has the key ``__keepfast__``. In an older layout,
the outer map ended with that key, and a trailer as its text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np

from keepfast._system.disk.checksum import Summed
from keepfast._system.disk.directories import path_of
from keepfast._system.disk.special import is_plain_file
from keepfast._system.warnings import warn
from keepfast.codec import check_leaves
from keepfast.errors import shown
from keepfast.formats.files.flax_bytes import (
    TEXT,
    Piece,
    RepeatedKey,
    first_text,
    pack,
    pack_map_header,
    pieces,
    restore,
)
from keepfast.formats.files.sealed import Damage, verified
from keepfast.formats.files.trailer import (
    has_introduction,
    has_trailer,
    is_introduction,
    is_trailer,
    read_with_introduction,
    read_with_trailer,
    write_with_introduction,
)
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.tree import Tree, items

_KEY = "__keepfast__"
_MAPS_AND_EXTENSIONS = tuple(bytes([code]) for code in (*range(0x81, 0x90), 0xDE, 0xDF, *range(0xC7, 0xCA)))
"""How MessagePack begins that is no empty map: a pickle that was cut behind its first byte is the same byte."""

_VALUE = "value"
"""The key of a state that is no container."""


@final
class MsgpackStore(CheckpointStore):
    """Keeps checkpoints as Flax does; containers come back as they were, though Flax itself sees only maps."""

    extension = ".msgpack"

    def write(self, checkpoint: Checkpoint, file: BinaryIO) -> Summed | None:
        """Write a checkpoint as one map of Flax's."""
        return write_flax(checkpoint, file)

    def check(self, state: Tree) -> None:
        """Check the kind of each leaf."""
        check_leaves(state)

    def wrote(self, path: Path) -> bool:
        """Say whether a file has our introduction, or the trailer of the older layout."""
        return is_ours(path)

    def read(self, path: Path) -> Checkpoint:
        """Read and verify a file of this format; one of Flax's gives maps with string keys, nothing to verify them."""
        with verified(path) as file:
            return read_flax(file)


def write_flax(checkpoint: Checkpoint, file: BinaryIO) -> Summed | None:
    """Write a checkpoint as Flax's bytes, with our introduction in them."""
    children = items(checkpoint.state)
    entries = [(_VALUE, checkpoint.state)] if children is None else list(children)
    first = pack(str(entries[0][0])) if entries else pack(_KEY)
    before = pack_map_header(len(entries) + 1) + first + TEXT
    document = _document(entries, named=children is not None)
    return write_with_introduction(file, checkpoint, document, lambda length: before + struct.pack(">I", length))


def _document(entries: list[tuple[Any, Tree]], *, named: bool) -> Iterator[Piece]:
    for key, child in entries:
        yield pack(str(key))
        yield from pieces(child, str(key) if named else "")


def is_ours(path: Path) -> bool:
    """Say whether a file is one of `write_flax`, of this layout or the older one."""
    path = path_of(path)
    if not is_plain_file(path):
        return False
    with path.open("rb") as file:
        return has_introduction(file, first_text(file)) or has_trailer(path)


def is_flax(beginning: bytes) -> bool:
    """Say whether a file that begins so holds Flax's bytes, a map or an array, and no pickle."""
    return beginning[:1] in _MAPS_AND_EXTENSIONS


def read_flax(file: BinaryIO) -> Checkpoint:
    """Return what Flax's bytes hold, verified where they are ours; those of others as maps with string keys.

    Raises:
        Exception: nearly any, if these are not such bytes.
    """
    found = read_with_introduction(file, first_text(file)) or read_with_trailer(file)
    if found is not None:
        return found
    file.seek(0)
    try:
        state = restore(file.read())
    except RepeatedKey as repeated:
        if any(map(is_introduction, repeated.values)):
            raise Damage("introduction", "is not what was written") from repeated
        raise Damage("content", str(repeated)) from repeated
    if isinstance(state, dict) and (is_trailer(state.get(_KEY)) or any(map(is_introduction, state.values()))):
        raise Damage("ending", "is not what was written")
    if not _is_likely(state):
        warn(
            f"`{file.name}` holds {shown(repr(state), 80)}, which no checkpoint of ours and hardly one of Flax's does; "
            "if it is one, it is damaged"
        )
    return Checkpoint(state)


def _is_likely(state: Tree) -> bool:
    """Say whether somebody keeps this as a checkpoint; half of all bytes are a number to MessagePack, each alone."""
    if isinstance(state, Mapping):
        return all(isinstance(key, str) for key in state)
    return isinstance(state, np.ndarray | np.generic | list)
