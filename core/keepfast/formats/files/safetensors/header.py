"""The header of a safetensors file, judged as its own library judges it.

What the library refuses is damage: text that is no strict UTF-8 or JSON, metadata that are no strings, sizes that are
no natural numbers, a gap or an overlap. What it takes and Keepfast cannot give is `keepfast.Unreadable`.
(https://github.com/huggingface/safetensors, ``safetensors/src/tensor.rs``)
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, final

from keepfast.errors import Unreadable, shown
from keepfast.formats.files.sealed import Damage
from keepfast.tree import first_repeated

LENGTH = struct.Struct("<Q")
"""What stands before the header: how long it is."""

LONGEST = 100_000_000
"""How many bytes a header may have."""

DTYPES = {
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
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""What arrays are stored as, by their dtype."""

PACKED = "F4"
"""Two numbers of 4 bits in a byte, the first in its lower half, which PyTorch calls ``float4_e2m1fn_x2``."""

_NAMES = {tag: name for name, tag in DTYPES.items()} | {PACKED: "float4_e2m1fn"}
_BITS = {tag: 8 if tag == "BOOL" else int(re.findall(r"\d+", tag)[0]) for tag in (*_NAMES, "F6_E2M3", "F6_E3M2")}
_FIELDS = ("dtype", "shape", "data_offsets")
_METADATA = "__metadata__"
_BEYOND = 1 << 64
_DEEPEST = 127
"""How many objects and lists may be in each other."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@final
@dataclass(frozen=True)
class Entry:
    """An array, as a header tells of it.

    Attributes:
        name: what it is called.
        tag: its dtype, as safetensors calls it.
        shape: its shape.
        start: where its bytes begin, behind the header.
        end: where they end.
    """

    name: str
    tag: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def dtype(self) -> str:
        """Return the dtype, as NumPy and `ml_dtypes` call it.

        Raises:
            Unreadable: if they have none.
        """
        if self.tag not in _NAMES:
            known = "its bits have no place in NumPy" if self.tag in _BITS else "of which Keepfast knows nothing"
            raise Unreadable(f"the entry `{shown(self.name)}` is of the dtype `{shown(self.tag)}`, {known}")
        return _NAMES[self.tag]


@final
@dataclass(frozen=True)
class Header:
    """What a header tells.

    Attributes:
        content: its bytes, with the length before them.
        metadata: texts by their names.
        described: what is told of each array, by its name.
        repeated: the keys that are there twice, of which the library takes the last.
    """

    content: bytes
    metadata: Mapping[str, str]
    described: Mapping[str, Any]
    repeated: Sequence[str]

    def entries(self, size: int) -> list[Entry]:
        """Return the arrays in the order of their bytes, checked to fill so many without gap or overlap.

        Raises:
            Damage: if they do not.
            Unreadable: if a key is there twice.
        """
        if self.repeated:
            raise Unreadable(
                f"the header has a key twice, `{shown(self.repeated[0])}`; each reader takes the one it likes, and "
                "Keepfast none"
            )
        entries = [_entry(name, told) for name, told in self.described.items()]
        entries.sort(key=lambda entry: (entry.start, entry.end))
        borders = [0, *(border for entry in entries for border in (entry.start, entry.end)), size]
        if any(left != right for left, right in zip(borders[::2], borders[1::2], strict=True)):
            raise Damage("data", "does not have the length that the header tells")
        return entries


def read_header(file: BinaryIO) -> Header:
    """Return what the header of a file tells.

    Raises:
        Damage: if it is none.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    beginning = file.read(LENGTH.size)
    length = LENGTH.unpack(beginning)[0] if len(beginning) == LENGTH.size else size
    if length > size - LENGTH.size:
        raise Damage("header", "ends after the file")
    if length > LONGEST:
        raise Damage("header", f"has more than the {LONGEST:,} bytes that safetensors allows")
    content = file.read(length)
    document, repeated = _document(content)
    metadata = document.pop(_METADATA, None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Damage("header", "has metadata that are no texts by their names")
    return Header(beginning + content, metadata, document, repeated)


@final
@dataclass
class _Reading:
    """What JSON is read with, where Python's own reader would take more than strict JSON has."""

    repeated: list[str] = field(default_factory=list)

    def of(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = first_repeated(name for name, _ in pairs)
            if twice in {_METADATA, *_FIELDS}:
                raise ValueError(f"an object has a key twice: {twice}")
            self.repeated.append(twice)
        return found

    @staticmethod
    def integer(digits: str) -> float:
        if digits == "-0":
            return -0.0
        float(value := int(digits))  # refuses what is beyond the numbers of JSON's readers
        return value

    @staticmethod
    def real(digits: str) -> float:
        if math.isinf(value := float(digits)):
            raise ValueError(f"the number {shown(digits)} is out of range")
        return value

    @staticmethod
    def refuse(word: str) -> float:
        raise ValueError(f"{word} is no number")


def _document(content: bytes) -> tuple[dict[str, Any], list[str]]:
    """Return the object that a header is, and the keys that are there twice."""
    how = _Reading()
    try:
        document = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=how.of,
            parse_int=how.integer,
            parse_float=how.real,
            parse_constant=how.refuse,
        )
        if _SURROGATE.search(content):
            json.dumps(document, ensure_ascii=False).encode()  # refuses half a pair
    except (ValueError, OverflowError, RecursionError) as error:
        raise Damage("header", f"is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise Damage("header", "is no JSON object")
    if _is_deep(document):
        raise Damage("header", "has objects in each other without end")
    return document, how.repeated


def _is_deep(document: Any) -> bool:
    level, depth = [document], 0
    while level:
        depth += 1
        inner = [node.values() if isinstance(node, dict) else node for node in level]
        level = [child for children in inner for child in children if isinstance(child, dict | list)]
    return depth > _DEEPEST


def _entry(name: str, told: Any) -> Entry:
    """Return what is told of one array, an object or a list of its three fields.

    Raises:
        Damage: if it does not make sense.
    """
    if isinstance(told, list) and len(told) == len(_FIELDS):
        told = dict(zip(_FIELDS, told, strict=True))
    if not isinstance(told, dict) or not set(_FIELDS) <= told.keys():
        raise Damage("header", f"describes an array wrongly: `{name}` has not {', '.join(_FIELDS)}")
    tag, shape, offsets = (told[field] for field in _FIELDS)
    if isinstance(tag, dict) and list(tag.values()) == [None]:
        (tag,) = tag
    if not isinstance(tag, str) or not _are_whole(shape) or not _are_whole(offsets) or len(offsets) != 2:
        raise Damage("header", f"describes an array wrongly: `{name}` has {', '.join(_FIELDS)} that are none")
    entry = Entry(name, tag, tuple(shape), *offsets)
    if min(shape, default=0) < 0 or (tag in _BITS and _bits(entry) != 8 * (entry.end - entry.start)):
        raise Damage(f"entry `{name}`", "has another size than its shape tells")
    return entry


def _are_whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number < _BEYOND for number in numbers)


def _bits(entry: Entry) -> int:
    """Return how many bits an array has, or -1 where they cannot be counted in 64 bits."""
    bits = 1
    for factor in (*entry.shape, _BITS[entry.tag]):
        bits *= factor
        if bits >= _BEYOND:
            return -1
    return bits
