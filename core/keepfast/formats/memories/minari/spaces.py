"""The spaces of a Minari dataset: those that tensors were created with, or else what their values allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue
from keepfast.formats.memories.minari.values import exactly, stored_dtype
from keepfast.interfaces.memory_exporter import MemorySnapshot

OBSERVATIONS = ("states", "observations")
"""What a tensor of observations may be called; the first that is there is Minari's."""

_SPACE_DTYPES = {"Discrete": "int64", "MultiDiscrete": "int64", "MultiBinary": "int8"}

Tensors = Mapping[str, NDArray[Any]]


@final
@dataclass(frozen=True)
class Place:
    """How Minari has the values of a tensor.

    Attributes:
        space: their space, as Minari writes it.
        dtype: the dtype that they are stored as.
        size: the shape of one sample there.
    """

    space: Mapping[str, Any]
    dtype: np.dtype[Any]
    size: tuple[int, ...]


def observations_of(tensors: Tensors) -> str:
    """Return the name of the tensor of observations.

    Raises:
        InvalidValue: if a tensor that every Minari dataset has is missing.
    """
    found = next((name for name in OBSERVATIONS if name in tensors), None)
    if found is None or not {"actions", "rewards"} <= tensors.keys():
        raise InvalidValue(
            "a Minari dataset needs the tensors `states` (or `observations`), `actions` and `rewards`; the memory has "
            f"{', '.join(f'`{name}`' for name in tensors) or 'none'}"
        )
    return found


def following_of(tensors: Tensors) -> NDArray[Any]:
    """Return the tensor of the observations after each step; that of the ones before where those are unknown."""
    given = tensors[observations_of(tensors)]
    following = tensors.get("next_states", given)
    return following if (following.shape, following.dtype) == (given.shape, given.dtype) else given


def dtype_of_space(metadata: Mapping[str, Any], name: str) -> np.dtype[Any] | None:
    """Return the dtype of the space that a tensor was created with, or None if a memory tells of none."""
    bounds = _bounds(metadata, name)
    try:
        return np.dtype(_SPACE_DTYPES.get(bounds["type"]) or bounds["dtype"])
    except (KeyError, TypeError):  # none, or the words of others
        return None


def place_of_observations(snapshot: MemorySnapshot) -> Place:
    """Return how Minari has the observations of a memory.

    Raises:
        InvalidValue: if a tensor that Minari needs is missing, or of a dtype that its spaces do not have.
    """
    name = observations_of(snapshot.tensors)
    values = [snapshot.tensors[name], following_of(snapshot.tensors)]
    return _given(snapshot.metadata, name, values) or _any_value(values[0])


def place_of_actions(snapshot: MemorySnapshot) -> Place:
    """Return how Minari has the actions of a memory; whole numbers from 0 on number the elements of a set.

    Raises:
        InvalidValue: if they are of a dtype that its spaces do not have.
    """
    tensor = snapshot.tensors["actions"]
    found = _given(snapshot.metadata, "actions", [tensor])
    if found is None and _is_discrete(tensor):
        count = int(tensor.max(initial=0)) + 1
        return Place({"type": "Discrete", "dtype": "int64", "start": 0, "n": count}, stored_dtype(tensor.dtype), ())
    return found or _any_value(tensor)


def _bounds(metadata: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a memory tells of the space of a tensor; its file may be anybody's."""
    table = metadata.get("bounds")
    found = table.get(name) if isinstance(table, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _given(metadata: Mapping[str, Any], name: str, values: list[NDArray[Any]]) -> Place | None:
    """Return the space that a tensor was created with, or None if none is known that these values can have.

    Values that the dtype of the space does not have stay as they are, in a box with the limits of the space.
    """
    bounds, dtype = _bounds(metadata, name), dtype_of_space(metadata, name)
    own, size = stored_dtype(values[0].dtype), values[0].shape[2:]
    try:
        shape, low, high = _limits(bounds)
    except (KeyError, TypeError, ValueError, OverflowError):  # none, or the words of others
        return None
    kinds = {own.kind, low.dtype.kind, high.dtype.kind, "" if dtype is None else dtype.kind}
    if dtype is None or math.prod(shape) != math.prod(size) or not kinds <= set("biuf"):
        return None
    if dtype != own and not all(exactly(tensor, dtype) for tensor in values):
        return Place(_box(own, size, low.reshape(size), high.reshape(size)), own, size)
    if bounds["type"] == "Box":
        return Place(_box(dtype, shape, low, high), dtype, shape)
    return Place(_numbered(bounds, shape), dtype, shape)


def _limits(bounds: Mapping[str, Any]) -> tuple[tuple[int, ...], NDArray[Any], NDArray[Any]]:
    """Return the shape of a sample of a space, and the lowest and highest value of each number."""
    if bounds["type"] == "Box":
        shape = tuple(int(length) for length in bounds["shape"])
        low, high = (np.broadcast_to(np.asarray(bounds[key]), shape) for key in ("low", "high"))
    elif bounds["type"] == "MultiBinary":
        shape = tuple(int(length) for length in bounds["shape"])
        low, high = np.zeros(shape, np.int64), np.ones(shape, np.int64)
    else:
        counts = np.asarray(bounds["n" if bounds["type"] == "Discrete" else "nvec"], np.int64)
        shape, low = counts.shape, np.broadcast_to(np.asarray(bounds["start"], np.int64), counts.shape)
        high = low + counts - 1
    return shape, low, high


def _numbered(bounds: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return a space that numbers the elements of sets, as Minari writes it."""
    if bounds["type"] == "MultiBinary":
        return {"type": "MultiBinary", "n": shape[0] if len(shape) == 1 else list(shape)}
    if bounds["type"] == "Discrete":
        return {"type": "Discrete", "dtype": "int64", "start": bounds["start"], "n": bounds["n"]}
    start = np.broadcast_to(np.asarray(bounds["start"]), shape).tolist()
    return {"type": "MultiDiscrete", "dtype": "int64", "nvec": bounds["nvec"], "start": start}


def _is_discrete(tensor: NDArray[Any]) -> bool:
    """Say whether actions number the elements of a set: one whole number from 0 on for each sample."""
    kind, size = stored_dtype(tensor.dtype).kind, tensor.shape[2:]
    if kind not in "iu" or size != (1,):
        return False
    return not tensor.size or bool(tensor.min() >= 0 and tensor.max() < np.iinfo(np.int64).max)


def _any_value(tensor: NDArray[Any]) -> Place:
    """Return the space of all values of a dtype and shape."""
    dtype, size = stored_dtype(tensor.dtype), tensor.shape[2:]
    if dtype.kind not in "biuf":
        raise InvalidValue(f"observations and actions of {dtype} have no space in Minari; allowed: real numbers, bool")
    return Place(_box(dtype, size, *(np.full(size, limit, float) for limit in (-np.inf, np.inf))), dtype, size)


def _box(dtype: np.dtype[Any], size: tuple[int, ...], low: NDArray[Any], high: NDArray[Any]) -> dict[str, Any]:
    """Return a box as Minari writes it, its limits none that its dtype lacks."""
    limits = (_of_dtype(limit, dtype).tolist() for limit in (low, high))
    return {"type": "Box", "dtype": str(dtype), "shape": list(size), **dict(zip(("low", "high"), limits, strict=True))}


def _of_dtype(limit: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # beyond the largest number is infinity
            return limit.astype(dtype)
    lowest, highest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    kept = [
        lowest if value <= lowest else highest if value >= highest else int(value) for value in limit.ravel().tolist()
    ]
    return np.array(kept, dtype).reshape(limit.shape)
