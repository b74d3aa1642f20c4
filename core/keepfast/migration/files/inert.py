"""Pickles of objects, read as what they are made of: no class of theirs is imported, and nothing of them is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.codec import check_shape
from keepfast.errors import CorruptCheckpoint, shown
from keepfast.pickles.machine import load_objects
from keepfast.pickles.objects import Pickled

_RECONSTRUCT = "_reconstruct"
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_ENCODE = "_codecs.encode"
_OF_JAX = "jax._src.array._reconstruct_array"
_DEEPEST, _SHARED = 100, 1 << 20
"""How many containers may be in each other, and how many more entries there may be than bytes in the pickle."""

_BYTES, _TIMES = 1 << 24, 2
"""How many bytes arrays and keys may have: so many, and so many times what the pickle has."""

_ENDLESS = "the pickle repeats its parts without end"
_LETTERS = frozenset("?bBhHiIlLqQefdg") | {f"{kind}{size}" for kind in "iufb" for size in (1, 2, 4, 8)}


@final
class _Stored:
    """The state of an array of NumPy that stands within another object."""

    def __init__(self, attributes: Any) -> None:
        self.attributes = attributes


@final
class PickledObject:
    """An object that a file holds as a pickle.

    Args:
        data: the pickle.
        origin: where it stands, for errors.

    Attributes:
        path: the name of its class.

    Raises:
        CorruptCheckpoint: if it is damaged, or is not the pickle of an object.
    """

    def __init__(self, data: bytes, origin: str) -> None:
        made = _loaded(data, origin)
        if not isinstance(made, Pickled) or not isinstance(made.attributes, Mapping):
            raise CorruptCheckpoint(f"{origin} is not a pickled object")
        self.path, self._attributes, self._origin = made.path, made.attributes, origin
        self._trees = _Trees(len(data))

    def __contains__(self, name: str) -> bool:
        return name in self._attributes

    def tree(self, name: str) -> Any:
        """Return an attribute as containers and arrays, as `tree_of` does.

        Raises:
            CorruptCheckpoint: if it refers to itself, or repeats its parts.
        """
        try:
            return self._trees.plain(self._attributes[name], 0)
        except ValueError as error:
            raise CorruptCheckpoint(f"{self._origin} is damaged ({shown(error)})") from error

    def number(self, name: str) -> str:
        """Return an attribute as text: a number, or what else it is by its kind."""
        value = self._attributes.get(name)
        found = array(value) if isinstance(value, Pickled) else value
        if isinstance(found, np.ndarray) and found.ndim == 0:
            found = found.item()
        plain = found is None or isinstance(found, float) or (isinstance(found, int) and abs(found) < 1 << 64)
        return str(found) if plain else f"a {type(found).__name__}"


def tree_of(data: bytes, origin: str, *, in_archive: bool = False) -> Any:
    """Return what a pickle holds as containers and arrays; an object is a dict of its attributes.

    Args:
        data: the pickle.
        origin: where it stands, for errors.
        in_archive: whether it is that of an archive of PyTorch, whose tensors lie outside it and are left out.

    Raises:
        CorruptCheckpoint: if it is damaged, or refers to itself.
    """
    try:
        return _Trees(len(data)).plain(_loaded(data, origin, _nothing if in_archive else None), 0)
    except ValueError as error:
        raise CorruptCheckpoint(f"{origin} is damaged ({shown(error)})") from error


def _nothing(_reference: Any) -> None:
    """Stand for data that lies outside a pickle."""


def _loaded(data: bytes, origin: str, outside: Callable[[Any], Any] | None = None) -> Any:
    try:
        return load_objects(data, outside)
    except Exception as error:  # unpickling damaged bytes raises nearly anything
        reason = shown(f"{type(error).__name__}: {error}")
        raise CorruptCheckpoint(f"{origin} is damaged ({reason})") from error


@final
class _Trees:
    """Makes trees of what a pickle of some size holds, and no more of them than one of that size may be."""

    def __init__(self, size: int) -> None:
        self._entries = _SHARED + size
        self._bytes = _BYTES + _TIMES * size

    def plain(self, value: Any, depth: int) -> Any:
        """Return a value as containers and arrays.

        Raises:
            ValueError: if there is no end of it.
        """
        self._entries -= 1
        if depth > _DEEPEST or self._entries < 0:
            raise ValueError(_ENDLESS)
        if isinstance(value, dict):
            return {self._key(key): self.plain(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(each, depth + 1) for each in value]
        if not isinstance(value, Pickled):
            return value
        self._spend(_nbytes(value))
        if (found := array(value)) is not None:
            return found
        if value.path.endswith("FrozenDict") and value.arguments:
            return self.plain(value.arguments[0], depth + 1)
        return {self._key(name): self.plain(each, depth + 1) for name, each in attributes(value).items()}

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            return key
        if isinstance(key, tuple | frozenset):
            self._spend(_parts(key))
        return str(key)

    def _spend(self, amount: int) -> None:
        self._bytes -= amount
        if self._bytes < 0:
            raise ValueError(_ENDLESS)


def _parts(key: Any) -> int:
    """Return about how long a key is as text."""
    if isinstance(key, tuple | frozenset):
        return 2 + sum(map(_parts, key))
    return len(key) if isinstance(key, str | bytes) else 8


def _nbytes(value: Pickled) -> int:
    """Return how many bytes there are to copy, if it is an array."""
    if value.path == _OF_JAX:
        told = value.arguments[2:3]
    elif value.path.rpartition(".")[0] in _ARRAYS:
        told = (value.arguments, value.attributes)
    else:
        return 0
    parts = [_encoded(part) or part for each in told if isinstance(each, tuple) for part in each[:5]]
    return sum(len(part) for part in parts if isinstance(part, str | bytes | bytearray))


def _encoded(value: Any) -> str | None:
    """Return the text of bytes that older protocols write as text."""
    if isinstance(value, Pickled) and value.path == _ENCODE and len(value.arguments) == 2:
        text, encoding = value.arguments
        return text if isinstance(text, str) and encoding == "latin1" else None
    return None


def attributes(value: Any) -> Mapping[str, Any]:
    """Return the attributes of an object that was pickled, or nothing for anything else."""
    found = value.attributes if isinstance(value, Pickled) else None
    return found if isinstance(found, Mapping) else {}


def array(value: Any) -> NDArray[Any] | None:
    """Return the array or number that a pickle describes, or None where it is of something else."""
    if isinstance(value, int | float):
        return found if (found := np.asarray(value)).dtype != object else None
    if not isinstance(value, Pickled):
        return None
    try:
        module, _, name = value.path.rpartition(".")
        if value.path == _OF_JAX:
            return _array(_RECONSTRUCT, _Stored(value.arguments[2]))
        return _array(name, value) if module in _ARRAYS else None
    except (TypeError, ValueError, IndexError, AttributeError):
        return None


def _array(name: str, value: Any) -> NDArray[Any] | None:
    if name == _RECONSTRUCT:
        _version, shape, dtype, fortran, data = value.attributes
        return _shaped(data, dtype, shape, "F" if fortran else "C")
    if name == "scalar":
        return _shaped(value.arguments[1], value.arguments[0], (), "C")
    if name == "_frombuffer":
        data, dtype, shape, order = value.arguments
        return _shaped(data, dtype, shape, order)
    return None


def _shaped(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    check_shape(shape)
    text = _encoded(data)
    data = data if text is None else text.encode("latin1")
    return np.frombuffer(data, _dtype(dtype)).reshape(shape, order=order).copy()


def _dtype(value: Any) -> np.dtype[Any]:
    letters = value.arguments[0]
    if letters not in _LETTERS:
        raise ValueError(letters)
    order = value.attributes[1] if isinstance(value.attributes, tuple) else "="
    found: np.dtype[Any] = np.dtype(letters).newbyteorder(order if order in "<>" else "=")
    return found
