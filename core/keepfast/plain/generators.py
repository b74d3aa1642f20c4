"""Random generators of NumPy and Python: what they keep, and how it is put back.

A state says where in its own numbers a generator reads next, which neither NumPy nor PyTorch compare with how many
there are: a file that says otherwise would have them read whatever memory lies there.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import LoadMismatch, shown
from keepfast.interfaces.backend import Mismatch
from keepfast.tree import Tree, describe

_PLACES = {"MT19937": ("pos", 624), "Philox": ("buffer_pos", 4)}
"""Of generators of NumPy that keep numbers for later: how the place of the next is called, and how many there are."""

_OF_TORCH, _WORDS = 5056, 624
"""How many bytes PyTorch's state of a generator on the host has, and how many words its Mersenne twister."""

_NUMPYS = (np.random.Generator, np.random.RandomState, np.random.BitGenerator)


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
        _set(generator, state)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise LoadMismatch(f"a {type(generator).__name__} cannot go on from the file's state: {error}") from error


def of_numpy(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a generator of NumPy, which reads no further than its own numbers.

    Raises:
        ValueError: if it would.
    """
    name, count = _PLACES.get(state["bit_generator"], ("", 0))
    place = state["state"][name] if name in state["state"] else state.get(name, 0)
    if isinstance(place, bool) or not 0 <= operator.index(place) <= count:
        raise ValueError(f"`{name}` is {shown(repr(place))}, and there are {count} numbers")
    return dict(state)


def of_torch(state: NDArray[Any]) -> NDArray[Any]:
    """Return the state of a generator of PyTorch, which reads no further than its own numbers.

    PyTorch checks the size of a state, and that each of these is one that there can be; not that they agree.

    Args:
        state: the bytes.

    Raises:
        ValueError: if it would.
    """
    if state.dtype == np.uint8 and state.shape == (_OF_TORCH,):
        left, place = int(state[8:12].view(np.int32)[0]), int(state[16:24].view(np.uint64)[0])
        if not 1 <= left <= _WORDS or left + place > _WORDS + 1:
            raise ValueError(f"it has {left} words left from the {place}th on, and there are {_WORDS}")
    return state


def _set(generator: Any, state: Mapping[str, Any]) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = of_numpy(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(of_numpy(state))
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = of_numpy(state)
    else:
        generator.setstate((state["version"], tuple(state["internal"].tolist()), state["gauss"]))
