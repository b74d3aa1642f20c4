"""Flax's bytes: the MessagePack that ``flax.serialization.to_bytes`` writes, written and read without Flax.

A state dict is a map with string keys; a list or tuple is a map of ``"0"``, ``"1"`` and so on. An array is extension 1
around the MessagePack of (shape, dtype name, bytes), a complex number extension 2 around (real, imaginary), a NumPy
scalar extension 3 as an array. An array above 2**30 bytes is a map ``{"__msgpack_chunked_array__": True, "shape":
{...}, "chunks": {...}}`` of flat pieces. (``flax/serialization.py``)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from keepfast.codec import dtype_of, native, shaped
from keepfast.errors import Unreadable, shown
from keepfast.tree import Tree, Unread, first_repeated, items

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"
LARGEST_CHUNK = 2**30
TEXT = b"\xdb"
"""How a text begins that has its length in four bytes."""

_LENGTHS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
"""By how a text begins: in how many bytes its length is."""

_U32 = struct.Struct(">I")

Piece = bytes | tuple[str, NDArray[Any]]
"""Bytes of MessagePack, or an array (contiguous) with its path, whose bytes stand there."""


def pieces(tree: Tree, path: str = "") -> Iterator[Piece]:
    """Yield the bytes of a tree in order, each array whole, so that it is written from where it is.

    What a state dict has no form for (sets, integers of more than 64 bits) is there as text.

    Raises:
        InvalidValue: if an array cannot be stored as its bytes; names its path.
    """
    children = items(tree)
    if isinstance(tree, np.ndarray | np.generic):
        yield from _array_pieces(path, np.ascontiguousarray(native(np.asarray(tree), path)).reshape(np.shape(tree)))
    elif children is None:
        yield _leaf(tree)
    else:
        yield pack_map_header(len(tree))
        for key, child in children:
            yield pack(str(key))
            yield from pieces(child, f"{path}.{key}" if path else str(key))


def pack(value: Any) -> bytes:
    """Return the MessagePack of a value; characters that no text file can hold become question marks."""
    packed: bytes = msgpack.packb(value, unicode_errors="replace")
    return packed


def pack_map_header(size: int) -> bytes:
    """Return the beginning of a map; its keys and values follow."""
    header: bytes = msgpack.Packer().pack_map_header(size)
    return header


def _leaf(leaf: Any) -> bytes:
    if isinstance(leaf, complex):
        leaf = msgpack.ExtType(_COMPLEX, pack((leaf.real, leaf.imag)))
    elif isinstance(leaf, set | frozenset) or (isinstance(leaf, int) and not -(2**63) <= leaf < 2**64):
        leaf = repr(leaf)
    return pack(leaf)


def _array_pieces(path: str, array: NDArray[Any]) -> Iterator[Piece]:
    if array.nbytes <= LARGEST_CHUNK:
        yield _array_header(array)
        yield path, array
        return
    flat, length = array.reshape(-1), max(1, LARGEST_CHUNK // array.itemsize)
    chunks = [flat[start : start + length] for start in range(0, flat.size, length)]
    yield pack_map_header(3)
    yield pack(_CHUNKED) + pack(True)
    yield pack("shape") + pack({str(axis): size for axis, size in enumerate(array.shape)})
    yield pack("chunks") + pack_map_header(len(chunks))
    for index, chunk in enumerate(chunks):
        yield pack(str(index)) + _array_header(chunk)
        yield path, chunk


def _array_header(array: NDArray[Any]) -> bytes:
    """Return all of an array's extension but the bytes of the array, which follow."""
    inner = b"\x93" + pack(array.shape) + pack(array.dtype.name) + b"\xc6" + _U32.pack(array.nbytes)
    return b"\xc9" + _U32.pack(len(inner) + array.nbytes) + bytes([_ARRAY]) + inner


@final
class RepeatedKey(Unreadable):
    """A map has a key twice, of which Flax takes the last.

    Args:
        key: the key.
        values: what is told under it.
    """

    def __init__(self, key: Any, values: list[Any]) -> None:
        super().__init__(
            f"a map has the key `{shown(key)}` twice; each reader takes the one it likes, and Keepfast none"
        )
        self.values = values


def first_text(file: BinaryIO) -> tuple[int, int] | None:
    """Return where the text begins that is the first value of a map, and how long it is; None for anything else.

    It is one with its length in four bytes, and its key is a text too.
    """
    file.seek(0)
    code = _byte(file)
    if not 0x81 <= code <= 0x8F and code not in (0xDE, 0xDF):
        return None
    file.seek({0xDE: 2, 0xDF: 4}.get(code, 0), 1)
    code = _byte(file)
    if not 0xA0 <= code <= 0xBF and code not in _LENGTHS:
        return None
    file.seek(code - 0xA0 if code not in _LENGTHS else int.from_bytes(file.read(_LENGTHS[code]), "big"), 1)
    if file.read(1) != TEXT:
        return None
    length = int.from_bytes(file.read(_U32.size), "big")
    return file.tell(), length


def _byte(file: BinaryIO) -> int:
    return int.from_bytes(file.read(1), "big")


def restore(data: Any) -> Tree:
    """Return the state dict of Flax's bytes; arrays own their memory. What is no plain data is `keepfast.tree.Unread`.

    Raises:
        RepeatedKey: if a map has a key twice.
        Exception: nearly any, if these are not such bytes.
    """
    how = {"ext_hook": _extension, "object_pairs_hook": _map, "raw": False, "strict_map_key": False}
    return _unchunk(msgpack.unpackb(data, **how))


def _map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if any(type(key) is complex for key, _ in pairs):  # any number of them may have one hash
        raise Unreadable("a key of a map is a complex number")
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = first_repeated(key for key, _ in pairs)
        raise RepeatedKey(twice, [value for key, value in pairs if key == twice])
    return found


def _extension(code: int, data: bytes) -> Any:
    if code == _COMPLEX:
        return complex(*msgpack.unpackb(data)[:2])
    if code not in (_ARRAY, _SCALAR):
        return Unread(f"msgpack.ExtType {code}")
    shape, name, content = msgpack.unpackb(data, raw=True)
    return shaped(np.frombuffer(bytearray(content), dtype_of(name.decode())), shape)


def _unchunk(node: Tree) -> Tree:
    if isinstance(node, msgpack.Timestamp):
        return Unread("msgpack.Timestamp")
    if isinstance(node, list):
        return [_unchunk(child) for child in node]
    if not isinstance(node, Mapping):
        return node
    if _CHUNKED in node:
        shape = [node["shape"][str(axis)] for axis in range(len(node["shape"]))]
        chunks = [node["chunks"][str(index)] for index in range(len(node["chunks"]))]
        return shaped(np.concatenate(chunks), shape)
    return {key: _unchunk(child) for key, child in node.items()}
