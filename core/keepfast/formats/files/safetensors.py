"""The `.safetensors` format: any reader of safetensors sees every array under its path, ``policy.net.0.weight``.

The layout is that of https://github.com/huggingface/safetensors: the length of a JSON header as eight bytes, the
header, the arrays' bytes. The header's ``__metadata__`` holds what safetensors has no place for:

- ``keepfast``, always first: the layout's version, and the CRC-32 of all bytes up to the arrays, taken with zeros in
  its own place;
- ``digests``: the CRC-32 of each array, in the order of their bytes;
- ``tree``: the containers and all that is no array, as `keepfast.codec` encodes them, arrays by name and dtype;
- ``metadata``: the checkpoint's.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from numpy.typing import NDArray

from keepfast import codec
from keepfast._system.disk.directories import path_of
from keepfast.errors import CorruptCheckpoint, CorruptFile
from keepfast.formats.files.sealed import (
    SEAL_DIGITS,
    Damage,
    digests_ahead,
    read_digested,
    verified,
    wrong_digest,
)
from keepfast.tree import Tree

_DTYPES = {
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
    "complex64": "C64",
    "float32": "F32",
    "int32": "I32",
    "uint32": "U32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int16": "I16",
    "uint16": "U16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


_NAMES = {tag: name for name, tag in _DTYPES.items()}


_LENGTH = struct.Struct("<Q")


_BEGINNING = b'{"__metadata__":{"keepfast":"1 '


_BETWEEN = b'","digests":"'


_NO_DIGEST = "0" * SEAL_DIGITS


_MARK = re.compile(rf"\d+ [0-9a-f]{{{SEAL_DIGITS}}}")
"""The value of ``keepfast``: a version and a digest."""


_ENOUGH_OF_OURS = 3
"""How many of our four keys tell our metadata: damage at one place leaves as many, and nobody else has them."""


_SEAL = slice(_LENGTH.size + len(_BEGINNING), _LENGTH.size + len(_BEGINNING) + SEAL_DIGITS)
"""Where the header's own digest stands."""


def write_safetensors(file: BinaryIO, tree: Tree, metadata: Mapping[str, Any]) -> None:
    """Write a tree so that any reader of safetensors gives each array by its path, also where two share memory.

    Args:
        file: an empty file, open for writing.
        tree: containers and leaves; arrays are NumPy arrays. Dtypes that safetensors lacks are stored as their bytes.
        metadata: a tree that stands in the header; see `keepfast.codec` for what it may hold.

    Raises:
        InvalidValue: if a leaf cannot be stored; names its path. Nothing is written then.
        OSError: if the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}

    def put(path: str, array: NDArray[Any]) -> list[str]:
        name = _free_name(path, arrays)
        arrays[name] = array
        return [name, str(array.dtype)]

    encoded = json.dumps(codec.encode(tree, put), separators=(",", ":"))
    _write(file, arrays, {"tree": encoded, "metadata": codec.dumps(dict(metadata))})


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

    Raises:
        CorruptFile: `error`, if the file is damaged.
        OSError: if it cannot be opened.
    """
    with verified(path, error, mapped=mapped) as file:
        return _read(file)


def is_ours(path: Path) -> bool:
    """Say whether a file begins as those of `write_safetensors` do."""
    path = path_of(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(_SEAL.start)[_LENGTH.size :] == _BEGINNING


def _free_name(path: str, taken: Container[str]) -> str:
    """Return a name for the array at a path: the path, unless it is another's (``{"a.b": x, "a": {"b": y}}``)."""
    name, count = path or "value", 1
    while name in taken or name == "__metadata__":
        count += 1
        name = f"{path}~{count}"
    return name


def _write(file: BinaryIO, arrays: dict[str, NDArray[Any]], texts: dict[str, str]) -> None:
    # Widest items first, so that each array begins at a multiple of its own item's size.
    ordered = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))
    buffers = [codec.array_bytes(array) for array in ordered.values()]
    header = _unsealed_header(ordered, texts)
    file.write(header)
    found = []
    with digests_ahead([[buffer] for buffer in buffers]) as digests:
        for buffer in buffers:
            file.write(buffer)
            found.append(next(digests))
    file.seek(0)
    file.write(_sealed_header(header, found))
    file.seek(0, os.SEEK_END)


def _unsealed_header(arrays: dict[str, NDArray[Any]], texts: dict[str, str]) -> bytes:
    """Return the length and the header, with zeros in the place of every digest."""
    own = {"keepfast": f"1 {_NO_DIGEST}", "digests": _NO_DIGEST * len(arrays), **texts}
    document: dict[str, Any] = {"__metadata__": own}
    position = 0
    for name, array in arrays.items():
        tag, shape = _stored_as(array)
        document[name] = {"dtype": tag, "shape": shape, "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    header = json.dumps(document, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _LENGTH.size)
    return _LENGTH.pack(len(header)) + header


def _sealed_header(header: bytes, digests: Sequence[int]) -> bytes:
    text = "".join(f"{digest:08x}" for digest in digests).encode()
    start = _SEAL.stop + len(_BETWEEN)
    header = header[:start] + text + header[start + len(text) :]
    return header[: _SEAL.start] + f"{zlib.crc32(header):08x}".encode() + header[_SEAL.stop :]


def _stored_as(array: NDArray[Any]) -> tuple[str, list[int]]:
    """Return the dtype and shape that stand in the header; for a dtype that safetensors lacks, those of the bytes."""
    tag = _DTYPES.get(str(array.dtype))
    return (tag, list(array.shape)) if tag else ("U8", [*array.shape, array.dtype.itemsize])


@final
@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def _read(file: BinaryIO) -> tuple[Tree, dict[str, Any]]:
    size = file.seek(0, os.SEEK_END)
    header, document = _read_header(file, size)
    own = document.pop("__metadata__")
    entries = _entries(document, size - len(header))
    digests = _digests(header, own, len(entries))
    arrays = {}
    for index, entry in enumerate(entries):
        data, digest = read_digested(file, len(header) + entry.start, entry.end - entry.start)
        if digests is not None and digest != digests[index]:
            raise wrong_digest(f"entry `{entry.name}`", digest, digests[index])
        arrays[entry.name] = codec.array_from_bytes(data, entry.dtype, entry.shape)
    if digests is None:
        return arrays, {}
    return _tree(own["tree"], arrays), codec.loads(own["metadata"])


def _read_header(file: BinaryIO, size: int) -> tuple[bytes, dict[str, Any]]:
    file.seek(0)
    beginning = file.read(_LENGTH.size)
    length = _LENGTH.unpack(beginning)[0] if len(beginning) == _LENGTH.size else size
    if length > size - _LENGTH.size:
        raise Damage("header", "ends after the file")
    header = file.read(length)
    try:
        document = json.loads(header, object_pairs_hook=_without_repetition)
    except ValueError as error:
        raise Damage("header", f"is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise Damage("header", "is no JSON object")
    if not isinstance(document.setdefault("__metadata__", {}), dict):
        raise Damage("header", "has metadata that is no JSON object")
    return beginning + header, document


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of the header; of two entries of one name, each reader would take the one it likes."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _digests(header: bytes, own: dict[str, str], count: int) -> list[int] | None:
    """Check the header and return each array's digest; None for a file of another tool."""
    if not _has_our_mark(own):
        return None
    digest = zlib.crc32(header[: _SEAL.start] + _NO_DIGEST.encode() + header[_SEAL.stop :])
    if header[_LENGTH.size : _SEAL.start] != _BEGINNING or header[_SEAL] != f"{digest:08x}".encode():
        raise Damage("header", "differs from what was written")
    text = own["digests"]
    return [int(text[8 * index : 8 * index + 8], 16) for index in range(count)]


def _has_our_mark(own: dict[str, str]) -> bool:
    """Say whether metadata are ours, also where one part of them is damaged; one word of ours is anybody's."""
    marked = _MARK.fullmatch(str(own.get("keepfast"))) is not None
    return marked or len({"keepfast", "digests", "tree", "metadata"} & set(own)) >= _ENOUGH_OF_OURS


def _entries(document: dict[str, Any], size: int) -> list[_Entry]:
    """Return the arrays in the order of their bytes, checked to fill the file without gap or overlap.

    Raises:
        Damage: if they do not.
    """
    try:
        entries = [
            _Entry(name, _NAMES[entry["dtype"]], tuple(entry["shape"]), *entry["data_offsets"])
            for name, entry in document.items()
        ]
        entries.sort(key=lambda entry: (entry.start, entry.end))
        for entry in entries:
            items = math.prod(entry.shape)
            if (
                min(entry.shape, default=0) < 0
                or items * codec.dtype_of(entry.dtype).itemsize != entry.end - entry.start
            ):
                raise Damage(f"entry `{entry.name}`", "has another size than its shape tells")
    except (KeyError, TypeError, ValueError) as error:
        raise Damage("header", f"describes an array wrongly ({type(error).__name__}: {error})") from error
    borders = [0, *(border for entry in entries for border in (entry.start, entry.end)), size]
    if any(left != right for left, right in zip(borders[::2], borders[1::2], strict=True)):
        raise Damage("data", "does not have the length that the header tells")
    return entries


def _tree(text: str, arrays: dict[str, NDArray[Any]]) -> Tree:
    def get(reference: Any) -> NDArray[Any]:
        name, dtype = reference
        array = arrays[name]
        return array if dtype in _DTYPES else array.reshape(-1).view(codec.dtype_of(dtype)).reshape(array.shape[:-1])

    return codec.decode(json.loads(text), get)
