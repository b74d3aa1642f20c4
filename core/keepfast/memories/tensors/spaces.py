"""Gymnasium's spaces: how the samples of one are stored, and those of a Dict or Tuple, each leaf of which is a tensor.

A structure has the names of tensors where the samples of a space have values: in a dict or, for a tuple, a list.
Gymnasium itself is not needed: a space is told by what it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, ShapeMismatch
from keepfast.memories.tensors.holding import dtype_name

Structure = Any
"""A dict or list of structures, or a name."""


def is_space(size: Any) -> bool:
    """Say whether something that users give as a size is a space."""
    return hasattr(size, "sample") and hasattr(size, "contains")


def is_composite(size: Any) -> bool:
    """Say whether a size is a space of several values: a Dict or a Tuple."""
    return is_space(size) and isinstance(size, Mapping | Sequence)


def sample_shape(space: Any) -> tuple[int, ...]:
    """Return the shape of a sample of a space; the values of a Dict or Tuple in one dimension, behind one another.

    Raises:
        InvalidValue: if its samples have no fixed size.
    """
    if is_composite(space):
        return (sum(math.prod(sample_shape(part)) for _, part in _parts(space)),)
    shape = None if hasattr(space, "spaces") else getattr(space, "shape", None)
    if shape is None:
        raise InvalidValue(f"samples of the space {space} have no fixed size")
    return tuple(int(length) for length in shape)


def sample_dtype(space: Any) -> str | None:
    """Return the name of the dtype of a space's samples, or None if it has none."""
    dtype = getattr(space, "dtype", None)
    return None if dtype is None else dtype_name(np.dtype(dtype))


def sample_limits(space: Any) -> tuple[int, int] | None:
    """Return whole numbers that no sample of a space is below or above, or None if it does not tell."""
    counts, start = getattr(space, "nvec", getattr(space, "n", None)), getattr(space, "start", 0)
    if type(space).__name__ == "MultiBinary":
        return 0, 1
    try:
        if counts is not None:
            low, high = np.min(start), np.max(np.add(start, counts)) - 1
        else:
            low, high = np.min(space.low), np.max(space.high)
        return math.floor(low), math.ceil(high)
    except (AttributeError, TypeError, ValueError, OverflowError):  # another space, or without limits
        return None


def space_bounds(space: Any) -> dict[str, Any] | None:
    """Return which samples a space has, in the words of Gymnasium; None for one that is none of its plain spaces.

    Limits that are the same for each number of a sample are one number.
    """
    try:
        if type(space).__name__ == "Discrete":
            return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
        if type(space).__name__ == "MultiBinary":
            return {"type": "MultiBinary", "shape": [int(length) for length in space.shape]}
        dtype = np.dtype(space.dtype)
        if type(space).__name__ == "MultiDiscrete":
            rows = {"nvec": np.asarray(space.nvec).tolist(), "start": np.asarray(getattr(space, "start", 0)).tolist()}
            return {"type": "MultiDiscrete", "dtype": str(dtype), **rows}
        low, high = (_at_once(np.asarray(limit)) for limit in (space.low, space.high))
    except (AttributeError, TypeError, ValueError):  # another space
        return None
    return {"type": "Box", "dtype": str(dtype), "shape": list(np.shape(space.low)), "low": low, "high": high}


def _at_once(limits: NDArray[Any]) -> Any:
    """Return limits as numbers in lists, or as one number where they are all the same."""
    return limits.flat[0].item() if limits.size and (limits == limits.flat[0]).all() else limits.tolist()


def _parts(space: Any) -> list[tuple[Any, Any]]:
    return list(space.items()) if isinstance(space, Mapping) else list(enumerate(space))


def structure_of(name: str, space: Any) -> Structure:
    """Return the structure of a space's samples; a leaf is named by its path, joined with dots as in every tree."""
    if not is_composite(space):
        return name
    parts = {key: structure_of(f"{name}.{key}", part) for key, part in _parts(space)}
    return parts if isinstance(space, Mapping) else list(parts.values())


def leaf_spaces(name: str, space: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the space of each leaf of a space."""
    if not is_composite(space):
        yield name, space
        return
    for key, part in _parts(space):
        yield from leaf_spaces(f"{name}.{key}", part)


def names_in(structure: Structure) -> list[str]:
    """Return the names in a structure, in order."""
    if isinstance(structure, str):
        return [structure]
    children = structure.values() if isinstance(structure, Mapping) else structure
    return [name for child in children for name in names_in(child)]


def is_structure(found: Any, known: Container[str]) -> bool:
    """Say whether something is a structure of known names."""
    if isinstance(found, str):
        return found in known
    if not isinstance(found, Mapping | list):
        return False
    return all(is_structure(part, known) for part in (found.values() if isinstance(found, Mapping) else found))


def filled_in(structure: Structure, value_of: Callable[[str], Any]) -> Any:
    """Return what a sample looks like, with the value of each name: nested dicts and tuples."""
    if isinstance(structure, str):
        return value_of(structure)
    if isinstance(structure, Mapping):
        return {key: filled_in(part, value_of) for key, part in structure.items()}
    return tuple(filled_in(part, value_of) for part in structure)


def taken_apart(name: str, structure: Structure, given: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each leaf of a sample.

    Args:
        name: what the sample is given as.
        structure: its structure.
        given: the sample, or a batch of them: dicts and tuples with an array for each leaf.

    Raises:
        InvalidValue: if it is none of that structure; names the part.
        ShapeMismatch: if it has other parts.
    """
    if isinstance(structure, str):
        yield structure, given
        return
    named = isinstance(structure, Mapping)
    wanted = list(structure.items() if named else enumerate(structure))
    if not isinstance(given, Mapping if named else tuple | list):
        what = f"a dict with {_listed(wanted)}" if named else f"a tuple of {len(wanted)}"
        raise InvalidValue(
            f"`{name}` was given a {type(given).__qualname__}; its space is of several values, so give {what}, each "
            "of a shape of its own; nothing was added"
        )
    keys = list(given) if isinstance(given, Mapping) else list(range(len(given)))
    if set(keys) != {key for key, _ in wanted}:
        raise ShapeMismatch(f"`{name}` was given {keys}; its space has {_listed(wanted)}; nothing was added")
    for key, part in wanted:
        yield from taken_apart(f"{name}.{key}", part, given[key])


def _listed(parts: Sequence[tuple[Any, Any]]) -> str:
    return ", ".join(f"`{key}`" for key, _ in parts) or "nothing"
