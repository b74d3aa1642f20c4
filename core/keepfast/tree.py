"""Trees: the plain nested containers in which every module's state travels.

A tree is made of `dict` (with `OrderedDict` and `Counter`), `list`, `tuple` and leaves. On the way to a file its array
leaves are NumPy arrays; before that they are a framework's own. An entry of a tree is named by its path, its keys
joined with dots, as PyTorch names its parameters: ``net.0.weight``, ``params.Dense_0.kernel``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keepfast.errors import InvalidValue

Tree = Any
"""A nested container, or a leaf. Python's type system cannot say it more narrowly and stay of use."""


def items(node: Tree) -> Iterator[tuple[Any, Tree]] | None:
    """Return the (key, child) pairs of a container, or None for a leaf."""
    if isinstance(node, Mapping):
        return iter(node.items())
    if isinstance(node, list | tuple):
        return iter(enumerate(node))
    return None


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) for every leaf, in order; the root's own path is the empty string."""
    children = items(tree)
    if children is None:
        yield path, tree
        return
    for key, child in children:
        yield from leaves(child, f"{path}.{key}" if path else str(key))


def flatten(tree: Tree) -> dict[str, Any]:
    """Return every leaf by its path.

    Raises:
        InvalidValue: if two leaves have one path (``{"a.b": 1, "a": {"b": 2}}``).
    """
    flat: dict[str, Any] = {}
    for path, leaf in leaves(tree):
        if path in flat:
            raise InvalidValue(f"two entries of the tree have the path `{path}`; rename one of their keys")
        flat[path] = leaf
    return flat


def rebuild(node: Tree, children: list[Tree]) -> Tree:
    """Return a container of the same type and keys as `node`, with other children."""
    if isinstance(node, Counter):
        return Counter(dict(zip(node, children, strict=True)))
    if isinstance(node, Mapping):
        pairs = zip(node, children, strict=True)
        return type(node)(pairs) if isinstance(node, dict) else dict(pairs)
    if hasattr(node, "_fields"):
        return type(node)(*children)
    return type(node)(children)


def map_leaves(change: Callable[[str, Any], Any], tree: Tree, path: str = "") -> Tree:
    """Return the same containers with ``change(path, leaf)`` in the place of each leaf."""
    children = items(tree)
    if children is None:
        return change(path, tree)
    changed = [map_leaves(change, child, f"{path}.{key}" if path else str(key)) for key, child in children]
    return rebuild(tree, changed)


def is_array(leaf: object) -> bool:
    """Say whether a leaf is an array or tensor of any framework."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def dtype_name(leaf: Any) -> str:
    """Return the dtype as all frameworks name it: ``float32``, ``bfloat16``, ``bool``."""
    return str(leaf.dtype).removeprefix("torch.")


def nbytes(tree: Tree) -> int:
    """Return how many bytes the arrays of a tree hold."""
    return sum(int(leaf.nbytes) for _, leaf in leaves(tree) if is_array(leaf))


def describe(leaf: Any) -> str:
    """Return what a leaf is, in a few words: dtype and shape of an array, type and value of anything else."""
    if is_array(leaf):
        return f"{dtype_name(leaf)} {tuple(leaf.shape)}"
    return f"{type(leaf).__name__} {leaf!r:.40}"
