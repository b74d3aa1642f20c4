"""Pickles of objects, read as what they are made of: no class of theirs is imported, and nothing of them is called."""

from __future__ import annotations

import abc
import io
import pickle
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import CorruptCheckpoint

_RECONSTRUCT = "_reconstruct"
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_DEEPEST, _MOST = 100, 1_000_000
_LETTERS = frozenset("?bBhHiIlLqQefdg") | {f"{kind}{size}" for kind in "iufb" for size in (1, 2, 4, 8)}


class _Inert(abc.ABC):
    """An object of a class that was not imported: its name, its arguments and its attributes."""

    path = ""
    arguments: tuple[Any, ...]
    attributes: Any
    parts: list[Any]

    def __new__(cls, *arguments: Any, **_named: Any) -> _Inert:
        made: Any = object.__new__(cls)
        made.arguments = arguments
        made.attributes = {}
        made.parts = []
        return made  # type: ignore[no-any-return]

    def __setstate__(self, state: Any) -> None:
        self.attributes = state[1] if isinstance(state, tuple) and len(state) == 2 and state[1] else state

    def append(self, item: Any) -> None:
        """Keep what a list of this class would."""
        self.parts.append(item)

    def extend(self, items: Any) -> None:
        """Keep what a list of this class would."""
        self.parts += items

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep what a dict of this class would."""
        self.parts.append((key, value))


@final
class _Stored:
    """The state of an array of NumPy that stands within another object."""

    def __init__(self, attributes: Any) -> None:
        self.attributes = attributes


@final
class _Loader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return type("Inert", (_Inert,), {"path": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("the pickle refers to data outside it")


def attributes_of(data: bytes, origin: str) -> tuple[str, Mapping[str, Any]]:
    """Return the class of a pickled object by name, and its attributes.

    Args:
        data: the pickle.
        origin: where it stands, for errors.

    Raises:
        CorruptCheckpoint: if it is damaged, or is not the pickle of an object.
    """
    try:
        made = _Loader(io.BytesIO(data)).load()
    except Exception as error:  # unpickling damaged bytes raises nearly anything
        raise CorruptCheckpoint(f"{origin} is damaged ({type(error).__name__}: {error})") from error
    if not isinstance(made, _Inert) or not isinstance(attributes(made), Mapping):
        raise CorruptCheckpoint(f"{origin} is not a pickled object")
    return type(made).path, attributes(made)


def tree_of(data: bytes, origin: str) -> Any:
    """Return what a pickle holds as containers and arrays; an object is a dict of its attributes.

    Args:
        data: the pickle.
        origin: where it stands, for errors.

    Raises:
        CorruptCheckpoint: if it is damaged, or refers to itself.
    """
    try:
        return _plain(_Loader(io.BytesIO(data)).load(), 0, [len(data) + _MOST])
    except CorruptCheckpoint:
        raise
    except Exception as error:  # as above
        raise CorruptCheckpoint(f"{origin} is damaged ({type(error).__name__}: {error})") from error


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth > _DEEPEST or left[0] < 0:
        raise CorruptCheckpoint("the pickle repeats its parts without end")
    if isinstance(value, dict):
        return {str(key): _plain(each, depth + 1, left) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1, left) for each in value]
    if not isinstance(value, _Inert):
        return value
    if (found := array(value)) is not None:
        return found
    if value.path.endswith("FrozenDict") and value.arguments:
        return _plain(value.arguments[0], depth + 1, left)
    return {name: _plain(each, depth + 1, left) for name, each in attributes(value).items()}


def attributes(value: Any) -> Mapping[str, Any]:
    """Return the attributes of an object that was pickled, or nothing for anything else."""
    found = getattr(value, "attributes", None) if isinstance(value, _Inert) else None
    return found if isinstance(found, Mapping) else {}


def array(value: Any) -> NDArray[Any] | None:
    """Return the array or number that a pickle describes, or None where it is of something else."""
    if isinstance(value, int | float):
        return np.asarray(value)
    if not isinstance(value, _Inert):
        return None
    module, _, name = value.path.rpartition(".")
    if value.path == "jax._src.array._reconstruct_array":
        value, name = _Stored(value.arguments[2]), _RECONSTRUCT
    elif module not in _ARRAYS:
        return None
    try:
        return _array(name, value)
    except (TypeError, ValueError, IndexError, AttributeError):
        return None


def _array(name: str, value: Any) -> NDArray[Any] | None:
    if name == _RECONSTRUCT:
        _version, shape, dtype, fortran, data = value.attributes
        return np.frombuffer(data, _dtype(dtype)).reshape(shape, order="F" if fortran else "C").copy()
    if name == "scalar":
        return np.frombuffer(value.arguments[1], _dtype(value.arguments[0])).reshape(()).copy()
    if name == "_frombuffer":
        data, dtype, shape, order = value.arguments
        return np.frombuffer(data, _dtype(dtype)).reshape(shape, order=order).copy()
    return None


def _dtype(value: Any) -> np.dtype[Any]:
    letters = value.arguments[0]
    if letters not in _LETTERS:
        raise ValueError(letters)
    order = value.attributes[1] if isinstance(value.attributes, tuple) else "="
    found: np.dtype[Any] = np.dtype(letters).newbyteorder(order if order in "<>" else "=")
    return found
