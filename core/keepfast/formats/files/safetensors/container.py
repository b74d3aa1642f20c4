"""The `.safetensors` format: any reader of safetensors sees every array under its path, ``policy.net.0.weight``.

The layout is that of https://github.com/huggingface/safetensors: the length of a JSON header as eight bytes, the
header, the arrays' bytes. The header's ``__metadata__`` holds what safetensors has no place for:

- ``keepfast``, always first: the layout's version, and the CRC-32 of all bytes up to the arrays, taken with zeros in
  its own place;
- ``digests``: the CRC-32 of each array, in the order of their bytes;
- ``tree``: the containers and all that is no array, as `keepfast.codec` encodes them, arrays by name and dtype;
- ``metadata``: the checkpoint's.

Two line feeds end the header. No library writes them, so a file that has our metadata and not one of the two was
written anew by another tool, which took our metadata over.
"""

from __future__ import annotations

import enum
import json
import os
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from keepfast import codec
from keepfast._system.disk.checksum import Summed, SummedFile, crc32
from keepfast._system.disk.directories import path_of
from keepfast._system.disk.special import is_plain_file
from keepfast.errors import CorruptCheckpoint, CorruptFile, InvalidValue, NewerFormat, Unreadable, shown
from keepfast.formats.files.safetensors.header import DTYPES, LENGTH, LONGEST, PACKED, Entry, Header, read_header
from keepfast.formats.files.sealed import (
    SEAL_DIGITS,
    Damage,
    read_digested,
    verified,
    warn_of_anew,
    wrong_digest,
)
from keepfast.tree import Tree

_BEGINNING = b'{"__metadata__":{"keepfast":"'


_VERSION = b"2"
"""The version of the layout; files of version 1 have no line feeds at the end, so every change of those is damage."""


_BETWEEN = b'","digests":"'


_NO_DIGEST = "0" * SEAL_DIGITS


_MARK = re.compile(rf"\d+ [0-9a-f]{{{SEAL_DIGITS}}}")
"""The value of ``keepfast``: a version and a digest."""


_END = b"\n\n"


_KEYS = frozenset({"keepfast", "digests", "tree", "metadata"})
_ENOUGH_OF_OURS = 3
"""How many of our four keys tell our metadata, or one of them and how our header ends: nobody else has as many."""


_SEAL_START = LENGTH.size + len(_BEGINNING) + len(_VERSION) + 1
_SEAL = slice(_SEAL_START, _SEAL_START + SEAL_DIGITS)
"""Where the header's own digest stands."""


@final
class _Written(enum.Enum):
    """Who wrote a file, by its header."""

    BY_US = enum.auto()
    BY_OTHERS = enum.auto()
    ANEW = enum.auto()
    """By others, who took over what stood beside the arrays in a file of ours."""


def write_safetensors(file: BinaryIO, tree: Tree, metadata: Mapping[str, Any]) -> Summed | None:
    """Write a tree so that any reader of safetensors gives each array by its path, also where two share memory.

    Args:
        file: an empty file, open for writing.
        tree: containers and leaves; arrays are NumPy arrays. Dtypes that safetensors lacks are stored as their bytes.
        metadata: a tree that stands in the header; see `keepfast.codec` for what it may hold.

    Returns:
        What the file was written with, where that is known.

    Raises:
        InvalidValue: if a leaf cannot be stored; names its path. If what is told beside the arrays is longer than a
            header may be. Nothing is written then.
        OSError: if the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}

    def put(path: str, array: NDArray[Any]) -> list[str]:
        name = _free_name(path, arrays)
        arrays[name] = array
        return [name, str(array.dtype)]

    encoded = json.dumps(codec.encode(tree, put), separators=(",", ":"))
    return _write(file, arrays, {"tree": encoded, "metadata": codec.dumps(dict(metadata))})


def read_safetensors(
    path: Path, error: type[CorruptFile] = CorruptCheckpoint, *, mapped: bool = False
) -> tuple[Tree, dict[str, Any]]:
    """Read a file of `write_safetensors`, or of another tool, and verify it.

    Args:
        path: the file.
        error: what to raise where it is damaged.
        mapped: whether to memory-map large arrays, copy on write, instead of reading them.

    Returns:
        The tree, and the metadata; of another tool's file a flat dict, its offsets verified, and no metadata.
        What another tool made of a file of ours is a tree where its arrays are those of the tree.

    Raises:
        CorruptFile: `error`, if the file is damaged.
        Unreadable: if it holds what NumPy has no array for.
        OSError: if it cannot be opened.
    """
    with verified(path, error, mapped=mapped) as file:
        return _read(file, path)


def is_ours(path: Path) -> bool:
    """Say whether a file begins as those of `write_safetensors` do."""
    path = path_of(path)
    if not is_plain_file(path):
        return False
    with path.open("rb") as file:
        beginning = file.read(_SEAL.start)
        if beginning[LENGTH.size : LENGTH.size + len(_BEGINNING)] != _BEGINNING:
            return False
        file.seek(LENGTH.unpack_from(beginning)[0])
        return beginning[-2:] != _VERSION + b" " or _ends_as_ours(file.read(LENGTH.size))


def _free_name(path: str, taken: Container[str]) -> str:
    """Return a name for the array at a path: the path, unless it is another's (``{"a.b": x, "a": {"b": y}}``)."""
    path = path.encode("utf-8", "replace").decode()  # half a pair of surrogates is no text in a file
    name, count = path or "value", 1
    while name in taken or name == "__metadata__":
        count += 1
        name = f"{path}~{count}"
    return name


def _write(file: BinaryIO, arrays: dict[str, NDArray[Any]], texts: dict[str, str]) -> Summed | None:
    # Widest items first, so that each array begins at a multiple of its own item's size.
    ordered = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))
    buffers = [codec.array_bytes(array) for array in ordered.values()]
    header = _unsealed_header(ordered, texts)
    file.write(header)
    behind = SummedFile(file)
    sealed = _sealed_header(header, [behind.write(buffer) for buffer in buffers])
    behind.flush()
    file.seek(0)
    file.write(sealed)
    file.seek(0, os.SEEK_END)
    return behind.after(sealed)


def _unsealed_header(arrays: dict[str, NDArray[Any]], texts: dict[str, str]) -> bytes:
    """Return the length and the header, with zeros in the place of every digest."""
    own = {"keepfast": f"{_VERSION.decode()} {_NO_DIGEST}", "digests": _NO_DIGEST * len(arrays), **texts}
    document: dict[str, Any] = {"__metadata__": own}
    position = 0
    for name, array in arrays.items():
        tag, shape = _stored_as(array)
        document[name] = {"dtype": tag, "shape": shape, "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    header = json.dumps(document, separators=(",", ":")).encode() + _END
    header += b" " * (-len(header) % LENGTH.size)
    if len(header) > LONGEST:
        raise InvalidValue(
            f"a header of safetensors has {LONGEST:,} bytes at most, and what is to be told beside the arrays takes "
            f"{len(header):,}; choose another format"
        )
    return LENGTH.pack(len(header)) + header


def _sealed_header(header: bytes, digests: Sequence[int]) -> bytes:
    text = "".join(f"{digest:08x}" for digest in digests).encode()
    start = _SEAL.stop + len(_BETWEEN)
    header = header[:start] + text + header[start + len(text) :]
    return header[: _SEAL.start] + f"{crc32(header):08x}".encode() + header[_SEAL.stop :]


def _stored_as(array: NDArray[Any]) -> tuple[str, list[int]]:
    """Return the dtype and shape that stand in the header; for a dtype that safetensors lacks, those of the bytes."""
    tag = DTYPES.get(str(array.dtype))
    return (tag, list(array.shape)) if tag else ("U8", [*array.shape, array.dtype.itemsize])


def _read(file: BinaryIO, path: Path) -> tuple[Tree, dict[str, Any]]:
    header = read_header(file)
    written = _written(header, path)
    entries = header.entries(file.seek(0, os.SEEK_END) - len(header.content))
    digests = _digests(header) if written is _Written.BY_US else []
    arrays = {}
    for index, entry in enumerate(entries):
        data, digest = read_digested(file, len(header.content) + entry.start, entry.end - entry.start)
        if digests and digest != digests[index]:
            raise wrong_digest(f"entry `{entry.name}`", digest, digests[index])
        arrays[entry.name] = _array(data, entry)
    if written is _Written.BY_US:
        return _tree(header.metadata["tree"], arrays), codec.loads(header.metadata["metadata"])
    return (_tree_of_others(header.metadata["tree"], arrays) if written is _Written.ANEW else arrays), {}


def _array(data: NDArray[np.uint8], entry: Entry) -> NDArray[Any]:
    dtype = entry.dtype
    if entry.tag == PACKED:
        data = np.stack([data & 15, data >> 4], axis=-1).reshape(-1)
    try:
        return codec.array_from_bytes(data, dtype, entry.shape)
    except Unreadable as error:
        raise Unreadable(f"the entry `{shown(entry.name)}` cannot be given: {error}") from error


def _written(header: Header, path: Path) -> _Written:
    """Say who wrote a file, and check the header of one of ours.

    Raises:
        Damage: if it differs from what was written.
        NewerFormat: if a later version wrote it.
    """
    own, content = header.metadata, header.content
    if not _has_our_mark(header):
        return _Written.BY_OTHERS
    if _is_anew(header):
        warn_of_anew(path, "of what we told beside them, only where they belong is used")
        return _Written.ANEW
    digest = crc32(content[: _SEAL.start] + _NO_DIGEST.encode() + content[_SEAL.stop :])
    beginning = content[LENGTH.size : LENGTH.size + len(_BEGINNING)]
    if beginning != _BEGINNING or content[_SEAL] != f"{digest:08x}".encode():
        raise Damage("header", "differs from what was written")
    if content[_SEAL.start - 2 : _SEAL.start] not in {b"1 ", _VERSION + b" "}:
        layout = shown(own["keepfast"].partition(" ")[0])
        raise NewerFormat(f"`{path}` is of the layout {layout}, of a later Keepfast; run: pip install -U keepfast")
    return _Written.BY_US


def _is_anew(header: Header) -> bool:
    """Say whether another tool wrote all of our metadata anew, whose layout has none of our two line feeds."""
    own = header.metadata
    whole = own.keys() >= _KEYS and _MARK.fullmatch(own["keepfast"]) is not None
    return whole and own["keepfast"].startswith(f"{_VERSION.decode()} ") and not _ends_as_ours(header.content)


def _ends_as_ours(header: bytes) -> bool:
    return b"\n" in header[header.rfind(b"}") + 1 :]


def _has_our_mark(header: Header) -> bool:
    """Say whether a header is ours, also where parts of it are damaged; one word of ours is anybody's."""
    own = header.metadata
    words = len(_KEYS & own.keys()) + (2 if _ends_as_ours(header.content) else 0)
    return _MARK.fullmatch(own.get("keepfast", "")) is not None or words >= _ENOUGH_OF_OURS


def _digests(header: Header) -> list[int]:
    text = header.metadata["digests"]
    return [int(text[start : start + SEAL_DIGITS], 16) for start in range(0, len(text), SEAL_DIGITS)]


def _tree(text: str, arrays: Mapping[str, NDArray[Any]]) -> Tree:
    def get(reference: Any) -> NDArray[Any]:
        name, dtype = reference
        array = arrays[name]
        return array if str(array.dtype) == dtype else _from_bytes(array, dtype)

    return codec.decode(json.loads(text), get)


def _from_bytes(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    return array.reshape(-1).view(codec.dtype_of(dtype)).reshape(array.shape[:-1])


def _tree_of_others(text: str, arrays: Mapping[str, NDArray[Any]]) -> Tree:
    """Return the arrays of another tool in the containers that we told of, or flat where those are of other arrays."""
    left = set(arrays)

    def get(reference: Any) -> NDArray[Any]:
        name, dtype = reference
        left.remove(name)
        return arrays[name] if dtype in DTYPES else _from_bytes(arrays[name], dtype)

    try:
        tree = codec.decode(json.loads(text), get)
    except (KeyError, ValueError, TypeError):
        return dict(arrays)
    return dict(arrays) if left else tree
