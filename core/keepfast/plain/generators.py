"""Random generators of NumPy and Python: what they keep, and how it is put back."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import LoadMismatch, as_given
from keepfast.interfaces.backend import Mismatch
from keepfast.tree import Tree, describe

_OF_TORCH, _WORDS = 5056, 624
"""How many bytes PyTorch's state of a generator on the host has, and how many words its Mersenne twister."""

_NUMPYS = (np.random.Generator, np.random.RandomState, np.random.BitGenerator)

_LAST = {"pos": 624, "buffer_pos": 4}
"""How far the places may be that a generator draws on from, by name; NumPy reads beyond its memory at any other."""


def includes(node: object) -> bool:
    """Say whether an object is such a generator."""
    return isinstance(node, (*_NUMPYS, random.Random)) and not isinstance(node, random.SystemRandom)


def capture(generator: Any) -> dict[str, Any]:
    """Return what a generator goes on from, in plain containers."""
    if isinstance(generator, np.random.Generator):
        return dict(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return dict(generator.get_state(legacy=False))
    if isinstance(generator, np.random.BitGenerator):
        return dict(generator.state)
    version, internal, gauss = generator.getstate()
    return {"version": version, "internal": np.array(internal, np.uint32), "gauss": gauss}


def mismatches(generator: Any, state: Tree) -> list[Mismatch]:
    """Return in what way a state is not that of such a generator; nothing if it is."""
    own = capture(generator)
    if not isinstance(state, Mapping):
        return [Mismatch("", "kind", f"the state of a {_named(generator, own)}", describe(state))]
    theirs = state.get("bit_generator")
    if own.get("bit_generator") != theirs:
        return [Mismatch("", "kind", f"the state of a {_named(generator, own)}", f"that of a {theirs or 'other kind'}")]
    absent = sorted(own.keys() - state.keys())
    return [Mismatch(name, "missing", expected=describe(own[name])) for name in absent]


def _named(generator: Any, own: Mapping[str, Any]) -> str:
    return str(own.get("bit_generator", type(generator).__name__))


def restore(generator: Any, state: Mapping[str, Any]) -> None:
    """Have a generator go on from what `capture` returned.

    Raises:
        LoadMismatch: if the numbers in it are none that such a generator can have.
    """
    try:
        require_like(capture(generator), state)
        _set(generator, state)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise LoadMismatch(f"a {type(generator).__name__} cannot go on from the file's state: {error}") from error


def require_like(own: Any, state: Any, name: str = "state") -> None:
    """Check a state before a generator is given it: NumPy and Python take much with which they cannot draw.

    Args:
        own: a state of a generator of that kind.
        state: what a file has in its place; what it has beside is passed over.
        name: what is checked, for errors.

    Raises:
        ValueError: if a part of it is none of such a generator's; KeyError, TypeError or OverflowError likewise.
    """
    if isinstance(own, Mapping | tuple):
        kind, theirs = (Mapping, dict(own)) if isinstance(own, Mapping) else (Sequence, dict(enumerate(own)))
        if not isinstance(state, kind) or (kind is Sequence and len(state) != len(own)):
            raise TypeError(f"`{name}` is {as_given(state)}; allowed: {len(own)} parts")
        for key, part in theirs.items():
            require_like(part, state[key], str(key))
    elif isinstance(own, np.ndarray):
        _require_array_like(own, np.asarray(state), name)
    elif isinstance(own, int):
        _require_place(operator.index(state), name)
    elif not isinstance(own, str):
        _require_left(state, name)


def _require_place(number: int, name: str) -> None:
    if name in _LAST and not 0 <= number <= _LAST[name]:
        raise ValueError(f"`{name}` is {as_given(number)}; allowed: 0 to {_LAST[name]}")


def _require_left(state: Any, name: str) -> None:
    """Check the second of two numbers that Python and NumPy draw at once, None where it was given out."""
    if state is not None and not (isinstance(state, float | int | np.floating) and math.isfinite(state)):
        raise ValueError(f"`{name}` is {as_given(state)}; allowed: a number or None")


def _require_array_like(own: NDArray[Any], saved: NDArray[Any], name: str) -> None:
    kinds = "ui" if own.dtype.kind in "ui" else own.dtype.kind
    if saved.shape != own.shape or saved.dtype.kind not in kinds:
        raise ValueError(f"`{name}` is {saved.dtype} of the shape {saved.shape}; allowed: {own.dtype} of {own.shape}")


def of_torch(state: NDArray[Any]) -> NDArray[Any]:
    """Return the state of a generator of PyTorch, which reads no further than its own numbers.

    PyTorch checks the size of a state, and that each of these is one that there can be; not that they agree.

    Args:
        state: the bytes.

    Raises:
        LoadMismatch: if it would.
    """
    if state.dtype == np.uint8 and state.shape == (_OF_TORCH,):
        left, place = int(state[8:12].view(np.int32)[0]), int(state[16:24].view(np.uint64)[0])
        if not 1 <= left <= _WORDS or left + place > _WORDS + 1:
            told = f"it has {left} words left from the {place}th on, and there are {_WORDS}"
            raise LoadMismatch(f"a Generator cannot go on from the file's state: {told}")
    return state


def _set(generator: Any, state: Mapping[str, Any]) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = dict(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(dict(state))
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = dict(state)
    else:
        generator.setstate((state["version"], tuple(state["internal"].tolist()), state["gauss"]))
