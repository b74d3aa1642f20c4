"""Packs states of many small values into one array, which costs a checkpoint what one entry costs.

The state of an environment is hundreds of numbers in containers in each other. As entries of a tree each of them is
copied, named, compared and encoded by itself. Packed, all of them are one array of bytes, `Packed`: a length, so many
bytes of JSON, and behind it the bytes of small arrays in the order in which the JSON names them. Large arrays stay
entries of their own, by their paths; they are stored from where they are.

In the JSON, a table with the one key "" stands for what JSON has no words for: ``{"": [kind, ...]}``.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast import codec
from keepfast._system.arguments.hashing import few_alike
from keepfast.errors import InvalidValue, UnsupportedModule, as_given
from keepfast.tree import Tree

SMALL = 1 << 14
"""Of how many bytes an array is packed at most."""

_PACKED, _LARGE = "packed", "arrays"
_LENGTH = struct.Struct("<Q")
_AS_THEY_ARE = frozenset({bool, int, float, str, type(None)})
_KINDS_OF_NUMBERS = "biufc"
_NAME_OF_NUMBERS = re.compile(rf"[<>|=]?[{_KINDS_OF_NUMBERS}][0-9]{{1,2}}", re.ASCII)
"""How NumPy calls them in short: its other names would be read as a program's text is."""

_Path = tuple[Any, ...]
"""Where a part of a state is, as its key and the path of what it is in: text is made of the few that are told."""


def pack(state: Mapping[str, Any]) -> Tree:
    """Return a state as one array and its large arrays, which are shared with it.

    Args:
        state: plain containers, of numbers, texts, bytes and arrays.

    Raises:
        UnsupportedModule: if there is anything else in it; names the path.
    """
    packer = _Packer()
    try:
        text = json.dumps(packer.told(state, ()), separators=(",", ":")).encode()
    except ValueError as error:  # an integer of thousands of digits
        raise UnsupportedModule(f"a state cannot be packed: {error}") from error
    parts = b"".join([_LENGTH.pack(len(text)), text, *packer.small])
    # By its length, for it has as many bytes as a file has, and not as many as there are already.
    return {_PACKED: {str(len(parts)): np.frombuffer(parts, np.uint8)}, _LARGE: packer.large}


def is_packed(saved: Tree) -> bool:
    """Say whether this is what `pack` returned."""
    return isinstance(saved, Mapping) and saved.keys() == {_PACKED, _LARGE}


def unpack(saved: Mapping[str, Any]) -> Any:
    """Return the state that `pack` made this of, its arrays of its own.

    Raises:
        InvalidValue: if `pack` cannot have made it.
    """
    try:
        (packed,) = saved[_PACKED].values()
        content = np.asarray(packed, np.uint8).tobytes()
        (length,) = _LENGTH.unpack_from(content)
        if length > len(content) - _LENGTH.size:
            raise ValueError(f"it is of {len(content)} bytes, and would have a text of {length}")
        unpacker = _Unpacker(memoryview(content)[_LENGTH.size + length :], saved[_LARGE])
        return json.loads(content[_LENGTH.size : _LENGTH.size + length], object_hook=unpacker.made)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, struct.error) as error:
        raise InvalidValue(f"a packed state makes no sense: {error}") from error
    except RecursionError:
        raise InvalidValue("a packed state is nested deeper than can be followed") from None


@final
class _Packer:
    """Makes a state into what JSON has, and keeps apart the arrays in it."""

    def __init__(self) -> None:
        self.small: list[bytes] = []
        self.large: dict[str, NDArray[Any]] = {}

    def told(self, node: Any, path: _Path) -> Any:
        kind = type(node)
        if kind in _AS_THEY_ARE:
            return node
        if isinstance(node, list):
            return self._all(node, path)
        if kind is dict:
            if _has_names(node):
                return {
                    key: each if type(each) in _AS_THEY_ARE else self.told(each, (key, path))
                    for key, each in node.items()
                }
            return {"": ["dict", self._all(node.keys(), path), self._all(node.values(), path)]}
        if kind is tuple or kind is set:
            return {"": [kind.__name__, self._all(node, path)]}
        if isinstance(node, np.ndarray) or (isinstance(node, np.generic) and node.dtype.kind in _KINDS_OF_NUMBERS):
            return {"": self._array(node, path)}
        if kind is bytes:
            return {"": ["bytes", base64.b64encode(node).decode("ascii")]}
        raise UnsupportedModule(f"`{_text(path)}` is a {kind.__module__}.{kind.__qualname__}, which cannot be stored")

    def _all(self, nodes: Any, path: _Path) -> list[Any]:
        return [
            each if type(each) in _AS_THEY_ARE else self.told(each, (number, path)) for number, each in enumerate(nodes)
        ]

    def _array(self, node: Any, path: _Path) -> list[Any]:
        array = np.asarray(node)
        if array.nbytes > SMALL or array.dtype.kind not in _KINDS_OF_NUMBERS:
            name = f"{_text(path)}.{array.dtype.str}{array.shape}"  # others have other names
            name = name if name not in self.large else f"{name} {len(self.large)}"
            self.large[name] = array
            return ["large", name]
        self.small.append(array.tobytes())
        return ["array" if isinstance(node, np.ndarray) else "number", array.dtype.str, list(array.shape)]


def _has_names(node: dict[Any, Any]) -> bool:
    """Say whether the keys of a table are texts, none of them what stands for something else."""
    return "" not in node and set(map(type, node)) <= _TEXT


_TEXT = frozenset({str})


def _text(path: _Path) -> str:
    keys = []
    while path:
        key, path = path
        keys.append(str(key))
    return ".".join(reversed(keys)) or "(root)"


@final
class _Unpacker:
    """Makes of tables of the JSON what they stand for; it is given the inner ones first, in the order of the text."""

    def __init__(self, small: memoryview, large: Mapping[str, Any]) -> None:
        self._small, self._large = small, dict(large)

    def made(self, table: dict[str, Any]) -> Any:
        if "" not in table:
            return table
        kind, *told = table[""]
        match kind:
            case "array":
                return self._array(*told)
            case "number":
                return self._array(*told)[()]
            case "large":
                return np.array(self._large.pop(told[0]))  # each is there once, and copied once
            case "dict":
                keys, values = told
                return dict(zip(few_alike(keys), values, strict=True))
            case "set":
                return set(few_alike(told[0]))
            case "tuple":
                return tuple(told[0])
            case "bytes":
                return base64.b64decode(told[0])
        raise ValueError(f"there is the unknown kind {as_given(kind)}")

    def _array(self, name: str, shape: list[int]) -> NDArray[Any]:
        if not _NAME_OF_NUMBERS.fullmatch(name):
            raise ValueError(f"there is an array of the dtype {as_given(name)}")
        dtype = codec.dtype_of(name)
        codec.check_shape(shape)
        count = 1
        for side in shape:
            count *= side
        made = np.frombuffer(self._small[: count * dtype.itemsize], dtype, count).reshape(shape).copy()
        self._small = self._small[count * dtype.itemsize :]
        return made
