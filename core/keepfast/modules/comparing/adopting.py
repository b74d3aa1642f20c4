"""Lets a file decide the structure of plain containers that are replaced: state that was None, a pool, a table."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from keepfast.interfaces.backend import Backend
from keepfast.modules.parts import CONTAINERS
from keepfast.plugins.backends import PLAIN, backend_named
from keepfast.tree import Tree, is_array, items, leaves

_PLAIN_LEAVES = (np.ndarray, np.generic, int, float, complex, str, bytes, type(None), set, frozenset)


def adopted(value: Any, own: Tree, found: Tree, *, was_plain: bool = False, is_top: bool = True) -> Tree:
    """Return a value's own tree with the structure of a file's, wherever the file decides it.

    It does where the value is None, or an empty dict or list; where all in a container is of Python or NumPy; and in a
    table or pool, a dict or list of arrays or trees that are all of one structure, as those of the file are. Parameters
    of a network are no such, so that those of another network are noticed.

    Args:
        value: what is to be restored.
        own: its captured tree.
        found: the file's tree.
        was_plain: whether all in it was of Python or NumPy when the tree was captured, though it has changed since.
        is_top: whether it is replaced itself, and in no container.
    """
    is_plain = was_plain or is_of_python(value)
    if (own is None or found is None) and (is_top or is_plain):
        return found
    mine, theirs, values = entries_of(own), entries_of(found), entries_of(value)
    if type(value) not in CONTAINERS or mine is None or theirs is None or values is None:
        return own
    if isinstance(own, Mapping) != isinstance(found, Mapping):
        return own
    is_free = mine.keys() == theirs.keys() or is_plain or not mine or _is_table(value, mine, theirs)
    children = {
        key: adopted(values[key], mine[key], theirs[key], was_plain=was_plain, is_top=False)
        if key in mine and key in theirs
        else each
        for key, each in (theirs if is_free else mine).items()
    }
    return children if isinstance(own, Mapping) else type(own)(children.values())


def entries_of(node: Any) -> dict[Any, Any] | None:
    """Return what is in a container, by key or number; None of a leaf."""
    children = items(node)
    return None if children is None else dict(children)


def is_of_python(value: Any) -> bool:
    """Say whether a value, with all that is in it, is of Python and NumPy alone."""
    return all(isinstance(leaf, _PLAIN_LEAVES) for _, leaf in leaves(value))


def _is_table(value: Any, mine: Mapping[Any, Tree], theirs: Mapping[Any, Tree]) -> bool:
    """Say whether all entries, of both sides, are of one structure, each array of one shape and dtype."""
    signatures = {_signature(entry) for entry in (*mine.values(), *theirs.values())}
    return not isinstance(value, tuple) and len(signatures) == 1


def _signature(tree: Tree) -> str:
    parts = ((path, *_described(leaf)) for path, leaf in leaves(tree))
    return repr(sorted(parts))


def _described(leaf: Any) -> tuple[str, str]:
    if is_array(leaf):
        return str(leaf.dtype).removeprefix("torch."), str(tuple(leaf.shape))
    return type(leaf).__name__, ""


def resizable(value: Any, own: Tree, backend: Backend) -> frozenset[str]:
    """Return the paths of the arrays of a value that may be of another shape in a file.

    They are those of NumPy in a value of Python and NumPy alone, and an array by itself where nobody counts on it.

    Args:
        value: what is to be restored.
        own: its captured tree.
        backend: what knows its arrays.
    """
    if not is_of_python(value) and not (is_array(value) and backend.is_resizable(value)):
        return frozenset()
    return frozenset(path for path, leaf in leaves(own) if is_array(leaf))


def are_resized(own: Tree, found: Tree) -> bool:
    """Say whether any array is of another shape than in a tree of the same entries."""
    pairs = zip(leaves(own), leaves(found), strict=True)
    return any(_differ_in_shape(mine, theirs) for (_, mine), (_, theirs) in pairs)


def _differ_in_shape(one: Any, other: Any) -> bool:
    return is_array(one) and is_array(other) and tuple(one.shape) != tuple(other.shape)


def are_alike(own: Tree, found: Tree) -> bool:
    """Say whether two trees have the same entries."""
    mine, theirs = entries_of(own), entries_of(found)
    if mine is None or theirs is None:
        return mine is None and theirs is None and (own is None) == (found is None)
    return mine.keys() == theirs.keys() and all(are_alike(mine[key], theirs[key]) for key in mine)


def rebuilt(value: Any, state: Tree, backend: Backend, device: Any) -> Any:
    """Put a state of another structure into a value; return it, or what replaces it.

    Containers stay the objects that they are, and so do arrays of the shape that they have in the state. What the value
    has nothing for is made like what is beside it.

    Args:
        value: what to restore.
        state: the tree that `adopted` had the value take.
        backend: what can handle arrays in it.
        device: where restored arrays go; see `Backend.restore`.
    """
    theirs, values = entries_of(state), entries_of(value)
    if type(value) not in CONTAINERS or theirs is None or values is None:
        return _restored(value, state, backend, device)
    pattern = list(values.values())[-1:]
    made = {
        key: rebuilt(values[key], each, backend, device) if key in values else _new(pattern, each, backend, device)
        for key, each in theirs.items()
    }
    if isinstance(value, dict):
        value.clear()
        value.update(made)
    elif isinstance(value, list):
        value[:] = made.values()
    else:
        return tuple(made.values())
    return value


def _restored(value: Any, state: Tree, backend: Backend, device: Any) -> Any:
    if state is None:
        return None
    if value is None:
        return _new([], state, backend, device)
    plain = backend_named(PLAIN)
    tells = not isinstance(value, deque) or len(value) > 0  # an empty one is of whatever the file has
    backend = plain if tells and plain.recognizes(value) else backend
    if _differ_in_shape(value, state):
        return _new([value], state, backend, device)
    return backend.restore(value, state, device)


def _new(pattern: list[Any], state: Tree, backend: Backend, device: Any) -> Any:
    """Return what a file has, as a deque of such would have it: like another one, or as the backend makes arrays."""
    made: deque[Any] = backend.restore(deque(pattern), [state], device)
    return made[0]
