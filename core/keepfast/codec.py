"""Trees as JSON: the form in which structure and metadata travel beside arrays, with no code in it.

Lists, strings, booleans, integers, finite floats and None are JSON's own; everything else is an object with one key
that names its kind. Where an array goes is the caller's choice: inline as base64, or by reference into a file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.guarding import guarded_outside
from keepfast._system.arguments.hashing import few_alike
from keepfast.errors import InvalidValue, MissingDependency, Unreadable, as_given, shown
from keepfast.tree import Tree, versions_of, with_versions

__all__ = [
    "GetArray",
    "MOST_DIMENSIONS",
    "MOST_ROWS_OF_NOTHING",
    "PutArray",
    "array_bytes",
    "array_from_bytes",
    "check_leaves",
    "check_shape",
    "decode",
    "dtype_of",
    "dumps",
    "encode",
    "loads",
    "native",
    "plain",
    "shaped",
]

PutArray = Callable[[str, NDArray[Any]], Any]
GetArray = Callable[[Any], NDArray[Any]]

_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
"""What JSON has words of its own for."""

_MAPPINGS: dict[str, type[dict[Any, Any]]] = {"dict": dict, "odict": OrderedDict, "counter": Counter}

MOST_ROWS_OF_NOTHING = 1 << 31
"""The most that the sides of an array without numbers, other than those of 0, may multiply to."""

MOST_DIMENSIONS = 64
"""How many dimensions NumPy's arrays have at most."""

_MACHINE_LEARNING = ("bfloat", "float", "int", "uint")
"""How the names of `ml_dtypes` begin."""


@guarded_outside
def dtype_of(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a name, with the machine-learning ones (bfloat16, float8) where `ml_dtypes` is there.

    Raises:
        TypeError: if no such dtype is known.
        MissingDependency: if NumPy has no such dtype and `ml_dtypes` is not installed.
    """
    if not isinstance(name, str | np.dtype | type):  # which NumPy would show, and showing some ends the process
        raise TypeError(f"a dtype is told by its name; got {as_given(name)}")
    try:
        found: np.dtype[Any] = np.dtype(name)
        return found
    except TypeError:
        if not isinstance(name, str) or not name.startswith(_MACHINE_LEARNING):
            raise TypeError(f"unknown dtype `{name}`") from None
        try:
            import ml_dtypes
        except ImportError:
            install = "which is not installed; run: pip install ml_dtypes"
            raise MissingDependency(f"the dtype `{name}` needs `ml_dtypes`, {install}") from None
        scalar = getattr(ml_dtypes, name, None)
        if scalar is None:
            raise TypeError(f"unknown dtype `{name}`") from None
        return np.dtype(scalar)  # type: ignore[no-any-return]


@guarded_outside
def array_bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array in C order, without a copy where it is contiguous already."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@guarded_outside
def array_from_bytes(data: Any, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array over bytes, sharing their memory."""
    return shaped(np.frombuffer(data, np.uint8).view(dtype_of(dtype)), shape)


@guarded_outside
def shaped(flat: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return the values of a file in the shape that it tells.

    Raises:
        ValueError: if these values do not have that shape.
        Unreadable: if it has more dimensions than NumPy's arrays, or there are no values and more rows than make sense.
    """
    check_shape(shape)
    return flat.reshape(shape)


@guarded_outside
def check_shape(shape: Sequence[int]) -> None:
    """Check that there are arrays of such a shape, and nobody who goes through the rows of one goes on forever.

    As many numbers as there are in a file are in its bytes; but of rows of nothing, it can tell as many as it likes.

    Raises:
        ValueError: if it has a side below 0.
        Unreadable: if it has more dimensions than NumPy's arrays, or no numbers and more rows than make sense.
    """
    if min(shape, default=0) < 0:
        raise ValueError(f"the shape {shown(tuple(shape))} has a side below 0")
    if len(shape) > MOST_DIMENSIONS:
        raise Unreadable(f"an array has {len(shape):,} dimensions, and those of NumPy at most {MOST_DIMENSIONS}")
    if 0 in shape and math.prod(side for side in shape if side) > MOST_ROWS_OF_NOTHING:
        raise Unreadable(
            f"an array has the shape {shown(tuple(shape))}, and Keepfast reads no more rows of nothing than "
            f"{MOST_ROWS_OF_NOTHING:,}"
        )


@guarded_outside
def native(array: NDArray[Any], path: str) -> NDArray[Any]:
    """Return an array in the machine's byte order, itself if it is.

    Raises:
        InvalidValue: if its bytes alone do not hold it (objects, structures); names its path.
    """
    _require_text(path)
    dtype = array.dtype.newbyteorder("=")
    if dtype.hasobject or dtype.names is not None or not _has_a_name(dtype):
        raise InvalidValue(f"`{path or '(root)'}` is an array of dtype {dtype}, which cannot be stored")
    return array if array.dtype.isnative else array.astype(dtype)


def _has_a_name(dtype: np.dtype[Any]) -> bool:
    try:
        return dtype_of(str(dtype)) == dtype
    except TypeError:
        return False


def _inline(_path: str, array: NDArray[Any]) -> list[Any]:
    return [str(array.dtype), list(array.shape), base64.b64encode(array_bytes(array)).decode("ascii")]


def _outline(stored: Any) -> NDArray[Any]:
    dtype, shape, data = stored
    return array_from_bytes(base64.b64decode(data), dtype, tuple(shape)).copy()


@guarded_outside
def plain(value: Any) -> Any:
    """Return a value in what strict JSON has, at every depth: for people and other tools, and no way back.

    Keys become text, tuples lists, and arrays and tensors without dimensions numbers. Numbers that are not finite are
    "NaN", "Infinity" and "-Infinity", which Python's `float` takes. What else JSON has no words for becomes text.
    """
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if getattr(value, "ndim", None) == 0:
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # a tensor that holds no number
            value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, bool | int | float | str) else _text(value)


def _text(value: Any) -> str:
    try:
        return as_given(value) if _is_gone(value) else str(value)
    except Exception:  # noqa: BLE001  (what has no text of its own is told all the same)
        return as_given(value)


def _is_gone(value: Any) -> bool:
    """Say whether it is a tensor whose memory was freed, which PyTorch reads all the same to show it."""
    storage = getattr(value, "untyped_storage", None)
    return storage is not None and bool(storage().nbytes() < value.nbytes)


@guarded_outside
def encode(tree: Tree, put: PutArray = _inline, path: str = "") -> Any:
    """Return a tree as values that JSON can hold.

    Args:
        tree: containers and leaves as the module's docstring lists them.
        put: stores an array found at a path, which is in the machine's byte order, and returns how to find it again.
        path: the path of `tree` itself.

    Raises:
        InvalidValue: if a leaf is of a kind that no file of ours can hold; names its path.
    """
    _require_text(path)
    return _encode(tree, put, path)


def _require_text(path: str) -> None:
    """Check a path, for there are tensors that end the process where they are shown."""
    if not isinstance(path, str):
        raise InvalidValue(f"a path is text; got {as_given(path)}")


def _encode(tree: Tree, put: PutArray = _inline, path: str = "") -> Any:
    if type(tree) in _AS_THEY_ARE:
        return tree

    def below(key: Any) -> str:
        return f"{path}.{key}" if path else str(key)

    if isinstance(tree, Mapping):
        kind = next((name for name, cls in _MAPPINGS.items() if type(tree) is cls), "dict")
        pairs = [
            [
                key if type(key) is str else _encode_key(key, path),
                child if type(child) in _AS_THEY_ARE else _encode(child, put, below(key)),
            ]
            for key, child in tree.items()
        ]
        versions = versions_of(tree)
        return {kind: pairs} if versions is None else {"state_dict": [_encode(versions), pairs]}
    if isinstance(tree, list | tuple):
        children = [
            child if type(child) in _AS_THEY_ARE else _encode(child, put, below(key)) for key, child in enumerate(tree)
        ]
        return children if isinstance(tree, list) else {"tuple": children}
    if isinstance(tree, set | frozenset):
        made = [(_encode_key(child, path), child) for child in tree]  # what it refuses had better not be shown
        return {"set": [encoded for encoded, child in sorted(made, key=lambda pair: repr(pair[1]))]}
    if isinstance(tree, np.ndarray | np.generic):
        array = native(np.asarray(tree), path)  # refuses what bytes do not hold
        return {"array": put(path, np.asarray(tree) if put is _inline else array)}  # a text tells the byte order too
    return _encode_plain(tree, path)


@guarded_outside
def check_leaves(tree: Tree) -> None:
    """Check that files of ours can hold all that is in a tree.

    Raises:
        InvalidValue: if not; names the path.
    """
    encode(tree, lambda _path, _array: None)


def _encode_key(key: Any, path: str) -> Any:
    # An array cannot be a key again, so NumPy's numbers become Python's, which are equal to them and hash alike.
    return _encode(key.item() if isinstance(key, np.generic) else key, path=path)


def _encode_plain(leaf: Any, path: str) -> Any:
    if leaf is None or isinstance(leaf, bool | str):
        return leaf
    if isinstance(leaf, int):
        return int(leaf)
    if isinstance(leaf, float):
        return float(leaf) if math.isfinite(leaf) else {"float": repr(float(leaf))}
    if isinstance(leaf, complex):
        return {"complex": [repr(leaf.real), repr(leaf.imag)]}
    if isinstance(leaf, bytes | bytearray):
        return {"bytes": base64.b64encode(leaf).decode("ascii")}
    raise InvalidValue(
        f"`{path or '(root)'}` is a {type(leaf).__module__}.{type(leaf).__qualname__}, which cannot be stored; "
        "allowed: numbers, strings, bytes, None, arrays, and dicts, lists, tuples and sets of them"
    )


@guarded_outside
def decode(stored: Any, get: GetArray = _outline) -> Tree:
    """Return the tree that `encode` made the values of.

    Raises:
        ValueError: if the values are not of `encode`'s making.
    """
    return _decode(stored, get)


def _decode(stored: Any, get: GetArray = _outline) -> Tree:
    if isinstance(stored, list):
        return [_decode(child, get) for child in stored]
    if not isinstance(stored, dict):
        return stored
    if len(stored) != 1:
        raise ValueError(f"an encoded container has the keys {sorted(stored)} where one was expected")
    ((kind, body),) = stored.items()
    try:
        return _decode_kind(kind, body, get)
    except (TypeError, IndexError) as error:
        raise ValueError(f"an encoded {kind} makes no sense: {error}") from error


def _decode_kind(kind: str, body: Any, get: GetArray) -> Tree:
    if kind in _MAPPINGS:
        keys = few_alike([key if type(key) is str else _decode(key) for key, _ in body])
        children = [child if type(child) in _AS_THEY_ARE else _decode(child, get) for _, child in body]
        return _MAPPINGS[kind](dict(zip(keys, children, strict=True)))
    match kind:
        case "array":
            return get(body)
        case "state_dict":
            versions, pairs = body
            return with_versions(_decode_kind("odict", pairs, get), _decode(versions))
        case "tuple":
            return tuple(_decode(child, get) for child in body)
        case "set":
            return set(few_alike([_decode(child) for child in body]))
        case "float":
            return float(body)
        case "complex":
            return complex(float(body[0]), float(body[1]))
        case "bytes":
            return base64.b64decode(body)
    raise ValueError(f"an encoded container is of the unknown kind `{kind}`")


@guarded_outside
def dumps(tree: Tree) -> str:
    """Return a tree as JSON text, its arrays inline."""
    return json.dumps(encode(tree), separators=(",", ":"), ensure_ascii=True)


@guarded_outside
def loads(text: str | bytes) -> Tree:
    """Return the tree of `dumps`.

    Raises:
        ValueError: if the text is no such JSON.
    """
    return decode(json.loads(text))
