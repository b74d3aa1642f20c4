"""Containers of every kind, opened one level at a time.

Plain dictionaries, lists and tuples are looked into directly; what else JAX knows as a pytree (named tuples,
dataclasses, TrainStates, FrozenDicts, optax states) through its registry, which also names the children.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import flax.serialization
import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, Partial, SequenceKey

from keepfast.tree import Tree, rebuild


@final
@dataclass(slots=True)
class Container:
    """One container, opened.

    Attributes:
        children: each child by the name it has in a file: a string or an integer.
        plain: makes, of captured children in the same order, the container that goes into a tree.
        like: makes, of new children in the same order, a container like the one that was opened.
        registered: whether JAX knows it by registration only, as neither dictionary, sequence nor named tuple.
    """

    children: dict[str | int, Any]
    plain: Callable[[Sequence[Tree]], Tree]
    like: Callable[[Sequence[Any]], Any]
    registered: bool = False


def open_container(node: Any) -> Container | None:
    """Return a container opened, or None for what contains nothing that is state."""
    if isinstance(node, dict):
        return _mapping(node)
    if type(node) in (list, tuple):
        return _sequence(node)
    if isinstance(node, Partial):
        return _partial(node)
    pairs, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda child: child is not node)
    if node is None or (pairs and not pairs[0][0]):  # a leaf, to us or to JAX
        return _mapping(node) if isinstance(node, Mapping) else None
    children = _named([_key(path[0]) for path, _ in pairs], [child for _, child in pairs])
    return Container(
        children,
        lambda captured: dict(zip(children, captured, strict=True)),
        lambda new: jax.tree_util.tree_unflatten(structure, new),
        registered=not hasattr(node, "_fields"),
    )


def _mapping(node: Mapping[Any, Any]) -> Container:
    children = _named(list(node), list(node.values()))
    return Container(
        children, lambda captured: dict(zip(children, captured, strict=True)), lambda new: _mapping_like(node, new)
    )


def _mapping_like(node: Mapping[Any, Any], new: Sequence[Any]) -> Any:
    if not isinstance(node, dict):
        return rebuild(node, list(new))
    made = copy.copy(node)  # keeps what a subclass holds besides, such as a default factory
    for key, child in zip(node, new, strict=True):
        made[key] = child
    return made


def _sequence(node: Sequence[Any]) -> Container:
    kind: Any = type(node)
    return Container(dict(enumerate(node)), kind, kind)


def _partial(node: Partial) -> Container:
    """Return a partial function, its arguments named as Flax names them: ``args.0``, ``keywords.scale``."""
    return Container(
        {"args": node.args, "keywords": node.keywords},
        lambda captured: dict(zip(("args", "keywords"), captured, strict=True)),
        lambda new: type(node)(node.func, *new[0], **new[1]),
        registered=True,
    )


_handlers: Mapping[Any, tuple[Any, Any]] = getattr(flax.serialization, "_STATE_DICT_REGISTRY", {})


def is_serialized_by_its_own(node: object) -> bool:
    """Say whether somebody other than Flax told it how an object of this class is serialized.

    Flax tells in public which classes are registered, and not by whom. Its own (dataclasses, FrozenDicts) are opened
    as all containers are, which finds random keys and modules in them; and to it all named tuples are alike.
    """
    is_plain = type(node) in (dict, list, tuple) or (isinstance(node, tuple) and hasattr(node, "_fields"))
    handlers = None if is_plain else _handlers.get(type(node))
    return handlers is not None and not (getattr(handlers[0], "__module__", None) or "").startswith("flax.")


def _key(entry: Any) -> Any:
    """Return the key in an entry of one of JAX's paths."""
    match entry:
        case GetAttrKey(name=key) | DictKey(key=key) | SequenceKey(idx=key) | FlattenedIndexKey(key=key):
            return key
    return entry


def _named(keys: Sequence[Any], children: Sequence[Any]) -> dict[str | int, Any]:
    """Return children by keys that a file can hold, by their positions where two keys would read the same."""
    if set(map(type, keys)) == {str}:
        return dict(zip(keys, children, strict=True))
    names = [key if type(key) in (str, int) else str(key) for key in keys]
    unique = len({str(name) for name in names}) == len(names)
    return dict(zip(names if unique else range(len(names)), children, strict=True))
