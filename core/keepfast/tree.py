"""Trees: the plain nested containers in which every module's state travels.

A tree is made of `dict` (with `OrderedDict` and `Counter`), `list`, `tuple` and leaves. On the way to a file its array
leaves are NumPy arrays; before that they are a framework's own. An entry of a tree is named by its path, its keys
joined with dots, as PyTorch names its parameters: ``net.0.weight``, ``params.Dense_0.kernel``.
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from keepfast._system.arguments.guarding import guarded_outside
from keepfast.errors import InvalidValue, as_given, shown

__all__ = [
    "Growing",
    "Tree",
    "Unread",
    "Versions",
    "Whole",
    "describe",
    "dtype_name",
    "first_repeated",
    "flatten",
    "grown",
    "is_array",
    "items",
    "leaves",
    "map_leaves",
    "nbytes",
    "nodes_of",
    "rebuild",
    "require_short_paths",
    "values",
    "versions_of",
    "with_versions",
    "with_wholes",
    "without_wholes",
]

Tree = Any
"""A nested container, or a leaf. Python's type system cannot say it more narrowly and stay of use."""


@final
@dataclass(frozen=True, slots=True)
class Unread:
    """A leaf that stands for what another tool's file has there, and nobody can read without running its code.

    Attributes:
        name: what the file says that it is: ``argparse.Namespace``.
    """

    name: str

    def __repr__(self) -> str:
        return f"Unread `{shown(self.name)}`"


@final
class Growing(list[Any]):
    """A list in a captured tree whose length a file decides, as that of a deque. A copy of it is a plain list."""


@final
@dataclass(frozen=True, slots=True)
class Whole:
    """A part of a tree that is compared as one entry, for its module takes whatever is in it."""

    content: Tree


@guarded_outside
def with_wholes(tree: Tree, names: Container[str]) -> Tree:
    """Return a tree in which each part whose path ends in one of these names is a leaf, a `Whole`."""
    return _with_wholes(tree, names)


def _with_wholes(tree: Tree, names: Container[str]) -> Tree:
    children = _items(tree)
    if children is None:
        return tree
    made = [
        Whole(each) if str(key).rpartition(".")[2] in names else _with_wholes(each, names) for key, each in children
    ]
    return _rebuild(tree, made)


@guarded_outside
def without_wholes(tree: Tree) -> Tree:
    """Return a tree of `with_wholes` as it was."""
    return map_leaves(lambda _, leaf: leaf.content if isinstance(leaf, Whole) else leaf, tree)


@guarded_outside
def grown(own: Tree, found: Tree) -> Tree:
    """Return a module's own tree with the entries of a file in the place of each `Growing` list that the file has."""
    return _grown(own, found)


def _grown(own: Tree, found: Tree) -> Tree:
    if isinstance(own, Growing):
        return list(found) if isinstance(found, list | tuple) else own
    children = _items(own)
    if children is None or _items(found) is None:
        return own
    theirs = dict(_items(found) or ())
    return _rebuild(own, [_grown(child, theirs.get(key)) for key, child in children])


Versions = Mapping[str, Mapping[str, Any]]
"""Of each module within a PyTorch module, by its path, what its state dict tells of it: ``{"bn": {"version": 2}}``."""


@guarded_outside
def versions_of(node: Tree) -> Versions | None:
    """Return the versions that PyTorch hangs on a state dict, as its ``_metadata``; None where there are none."""
    return getattr(node, "_metadata", None) if isinstance(node, OrderedDict) else None


@guarded_outside
def with_versions(node: Tree, versions: Any, seen: dict[int, Any] | None = None) -> Tree:
    """Hang versions on a state dict, as PyTorch does, and return it; what is no plain value in them is left out.

    Args:
        node: a tree; what is no `OrderedDict` takes none.
        versions: what stands in a file, or in a state dict, for them: it may be anything.
        seen: what was made of parts of a file so far, by their ids, so that each is gone through once.
    """
    if isinstance(node, OrderedDict) and isinstance(versions, Mapping):
        vars(node)["_metadata"] = _once(versions, _plain_versions, {} if seen is None else seen)
    return node


def _plain_versions(versions: Mapping[Any, Any], seen: dict[int, Any]) -> dict[str, Any]:
    told = {path: each for path, each in versions.items() if isinstance(path, str) and isinstance(each, Mapping)}
    return {path: _once(each, _plain_values, seen) for path, each in told.items()}


def _plain_values(told: Mapping[Any, Any], _seen: dict[int, Any]) -> dict[str, Any]:
    return {key: each for key, each in told.items() if isinstance(key, str) and isinstance(each, _PLAIN)}


def _once(told: Any, made: Callable[[Any, dict[int, Any]], Any], seen: dict[int, Any]) -> Any:
    if id(told) not in seen:
        seen[id(told)] = made(told, seen)
    return seen[id(told)]


_PLAIN = (bool, int, float, str, type(None))


def _items(node: Tree) -> Iterator[tuple[Any, Tree]] | None:
    """Return the (key, child) pairs of a container, or None for a leaf."""
    kind = type(node)
    if kind in _LEAVES:
        return None
    if kind is dict or isinstance(node, Mapping):
        pairs: Iterator[tuple[Any, Tree]] = iter(node.items())
        return pairs
    return iter(enumerate(node)) if isinstance(node, list | tuple) else None


_LEAVES = frozenset({bool, int, float, str, bytes, type(None), np.ndarray})
"""What most leaves are: to ask each of them what it is took most of the time that a walk through a tree takes."""


items = guarded_outside(_items)


@guarded_outside
def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) for every leaf, in order; the root's own path is the empty string."""
    _require_text(path)
    yield from _leaves(tree, path)


def _leaves(tree: Tree, path: str) -> Iterator[tuple[str, Any]]:
    children = _items(tree)
    if children is None:
        yield path, tree
        return
    for key, child in children:
        yield from _leaves(child, f"{path}.{key}" if path else str(key))


def _require_text(path: str) -> None:
    """Check a path, for there are tensors that end the process where they are shown."""
    if not isinstance(path, str):
        raise InvalidValue(f"a path is text; got {as_given(path)}")


@guarded_outside
def values(tree: Tree) -> Iterator[Any]:
    """Yield every leaf, in order, for whoever does not ask where it is."""
    pending = [iter((tree,))]
    while pending:
        for node in pending[-1]:
            children = _items(node)
            if children is not None:
                if len(pending) > _ENDLESS:
                    raise InvalidValue(f"more than {_ENDLESS:,} containers are in each other, or one is in itself")
                pending.append(child for _, child in children)
                break
            yield node
        else:
            pending.pop()


_ENDLESS = 10_000
"""From how many containers in each other on a tree is taken to have no end."""

_DEEPEST = 800
"""How many containers may be in each other: whoever goes through a tree by recursion has a thousand calls for it."""


@guarded_outside
def require_short_paths(tree: Tree, most: int) -> None:
    """Check that the paths of all containers and leaves, written out, are not longer than that together.

    Raises:
        ValueError: if they are: a key of a million characters, and a thousand dicts in each other below it, say; or if
            more containers are in each other than a recursion can go through.
    """
    if not isinstance(most, int):
        raise InvalidValue(f"a length is a whole number; got {as_given(most)}")
    pending = [(0, _items(tree) or iter(()))]
    while pending:
        if len(pending) > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} of its containers are in each other")
        length, children = pending[-1]
        for key, child in children:
            inner = length + 1 + _length(key, most)
            most -= inner
            if most < 0:
                raise ValueError("the paths of its entries are longer than a file of this size may make them")
            if (below := _items(child)) is not None:
                pending.append((inner, below))
                break
        else:
            pending.pop()


def _length(key: Any, most: int) -> int:
    """Return about how long a key is as text, without making that of it; a little more than `most` for a longer one."""
    if isinstance(key, str | bytes):
        return len(key)
    if not isinstance(key, tuple | set | frozenset):
        return 8
    length = 0
    for part in key:
        length += 2 + _length(part, most - length)
        if length > most:
            break
    return length


@guarded_outside
def nodes_of(tree: Tree, path: str = "") -> Iterator[tuple[str, Tree]]:
    """Yield (path, node) for every container and every leaf, the root first."""
    _require_text(path)
    yield from _nodes_of(tree, path)


def _nodes_of(tree: Tree, path: str) -> Iterator[tuple[str, Tree]]:
    yield path, tree
    for key, child in _items(tree) or ():
        yield from _nodes_of(child, f"{path}.{key}" if path else str(key))


@guarded_outside
def flatten(tree: Tree) -> dict[str, Any]:
    """Return every leaf by its path.

    Raises:
        InvalidValue: if two leaves have one path (``{"a.b": 1, "a": {"b": 2}}``).
    """
    flat: dict[str, Any] = {}
    _flatten(tree, "", flat)
    return flat


def _flatten(tree: Tree, path: str, flat: dict[str, Any]) -> None:
    children = _items(tree)
    if children is None:
        if path in flat:
            raise InvalidValue(f"two entries of the tree have the path `{path}`; rename one of their keys")
        flat[path] = tree
        return
    for key, child in children:
        _flatten(child, f"{path}.{key}" if path else str(key), flat)


@guarded_outside
def rebuild(node: Tree, children: list[Tree]) -> Tree:
    """Return a container of the same type and keys as `node`, with other children."""
    return _rebuild(node, children)


def _rebuild(node: Tree, children: list[Tree]) -> Tree:
    if type(node) is dict:
        return dict(zip(node, children, strict=True))
    if isinstance(node, Counter):
        return Counter(dict(zip(node, children, strict=True)))
    if isinstance(node, Mapping):
        pairs = zip(node, children, strict=True)
        made = type(node)(pairs) if isinstance(node, dict) else dict(pairs)
        if isinstance(node, OrderedDict) and (told := vars(node)):
            vars(made).update(told)  # what PyTorch hangs on a state dict
        return made
    if hasattr(node, "_fields"):
        return type(node)(*children)
    return children if isinstance(node, Growing) else type(node)(children)


@guarded_outside
def map_leaves(change: Callable[[str, Any], Any], tree: Tree, path: str = "") -> Tree:
    """Return the same containers with ``change(path, leaf)`` in the place of each leaf."""
    _require_text(path)
    return _map_leaves(change, tree, path)


def _map_leaves(change: Callable[[str, Any], Any], tree: Tree, path: str) -> Tree:
    children = _items(tree)
    if children is None:
        return change(path, tree)
    changed = [_map_leaves(change, child, f"{path}.{key}" if path else str(key)) for key, child in children]
    return _rebuild(tree, changed)


@guarded_outside
def first_repeated(values: Iterable[Any]) -> Any:
    """Return the first of some values that is there a second time; None where each is there once."""
    seen = set[Any]()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


@guarded_outside
def is_array(leaf: object) -> bool:
    """Say whether a leaf is an array or tensor of any framework; one that cannot tell its shape is none."""
    try:
        return hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    except Exception:  # noqa: BLE001  (a nested tensor of PyTorch has none, and an object may raise whatever it likes)
        return False


@guarded_outside
def dtype_name(leaf: Any) -> str:
    """Return the dtype as all frameworks name it: ``float32``, ``bfloat16``, ``bool``."""
    try:
        return _name_of(leaf.dtype)
    except TypeError:  # it is of some class of which none has a hash
        return str(leaf.dtype).removeprefix("torch.")


@functools.lru_cache(maxsize=256)
def _name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


@guarded_outside
def nbytes(tree: Tree) -> int:
    """Return how many bytes the arrays of a tree hold."""
    return sum(int(leaf.nbytes) for leaf in values(tree) if is_array(leaf))


@guarded_outside
def describe(leaf: Any) -> str:
    """Return what a leaf is, in a few words: dtype and shape of an array, type and value of anything else."""
    if is_array(leaf):
        return f"{dtype_name(leaf)} {tuple(leaf.shape)}"
    if isinstance(leaf, Unread):
        return repr(leaf)
    if isinstance(leaf, Whole):
        return "what the module takes as it is"
    return f"{type(leaf).__name__} {as_given(leaf):.40}"
