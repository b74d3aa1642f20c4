"""The `.msgpack` format: Flax's bytes. ``flax.serialization.msgpack_restore`` reads it, and it reads those of Flax.

Beside the modules the outer map has the key ``__keepfast__`` with the trailer (see `keepfast.formats.files.trailer`) as
text; whoever restores a module of Flax by hand takes that key out first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, final

from keepfast.codec import check_leaves
from keepfast.formats.files.flax_bytes import Piece, pack, pack_map_header, pieces, restore
from keepfast.formats.files.sealed import Damage, verified
from keepfast.formats.files.trailer import has_trailer, read_with_trailer, write_with_trailer
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.tree import Tree, items

_KEY = "__keepfast__"
_MAPS_AND_EXTENSIONS = tuple(bytes([code]) for code in (*range(0x81, 0x90), 0xDE, 0xDF, *range(0xC7, 0xCA)))
"""How MessagePack begins that is no empty map, which is one byte; a pickle with two of them begins as that does."""

_VALUE = "value"
"""The key of a state that is no container."""


@final
class MsgpackStore(CheckpointStore):
    """Keeps checkpoints as Flax does; containers come back as they were, though Flax itself sees only maps."""

    extension = ".msgpack"

    def write(self, checkpoint: Checkpoint, file: BinaryIO) -> None:
        """Write a checkpoint as one map of Flax's, the trailer its last value."""
        write_flax(checkpoint, file)

    def check(self, state: Tree) -> None:
        """Check the kind of each leaf."""
        check_leaves(state)

    def wrote(self, path: Path) -> bool:
        """Say whether a file has our trailer."""
        return has_trailer(path)

    def read(self, path: Path) -> Checkpoint:
        """Read and verify a file of this format; one of Flax's gives maps with string keys, nothing to verify them."""
        with verified(path) as file:
            return read_with_trailer(file) or read_flax(file)


def write_flax(checkpoint: Checkpoint, file: BinaryIO) -> None:
    """Write a checkpoint as Flax's bytes, with the trailer in them."""
    write_with_trailer(file, checkpoint, _document(checkpoint.state), _introduction)


def _document(state: Tree) -> Iterator[Piece]:
    children = items(state)
    entries = [(_VALUE, state)] if children is None else list(children)
    yield pack_map_header(len(entries) + 1)
    for key, child in entries:
        yield pack(str(key))
        yield from pieces(child, "" if children is None else str(key))


def _introduction(length: int) -> bytes:
    return pack(_KEY) + b"\xdb" + struct.pack(">I", length)


def is_flax(beginning: bytes) -> bool:
    """Say whether a file that begins so holds Flax's bytes, a map or an array, and no pickle."""
    return beginning[:1] in _MAPS_AND_EXTENSIONS or beginning == b"\x80"


def read_flax(file: BinaryIO) -> Checkpoint:
    """Return what Flax's bytes hold; as maps with string keys.

    Raises:
        Exception: nearly any, if these are not such bytes.
    """
    file.seek(0)
    state = restore(file.read())
    if isinstance(state, dict) and _KEY in state:
        raise Damage("ending", "is not what was written")
    return Checkpoint(state)
