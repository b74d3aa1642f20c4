"""Random generators of NumPy and Python: what they keep, and how it is put back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from keepfast.errors import LoadMismatch
from keepfast.interfaces.backend import Mismatch
from keepfast.tree import Tree, describe

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


def _set(generator: Any, state: Mapping[str, Any]) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = dict(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(dict(state))
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = dict(state)
    else:
        generator.setstate((state["version"], tuple(state["internal"].tolist()), state["gauss"]))
