"""State of what Python and NumPy have: captured as a tree of plain containers, and restored from one.

Each kind of object is a row of `KINDS`, and a container is looked into kind by kind, down to its leaves.
"""

from __future__ import annotations

import abc
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.memory.giving import taken
from keepfast.errors import InvalidValue, KeepfastError, LoadMismatch, UnsupportedModule, as_given
from keepfast.interfaces.backend import Mismatch
from keepfast.plain import generators
from keepfast.plain.numbers import NUMBERS
from keepfast.plain.packing import is_packed, pack, unpack
from keepfast.tree import Growing, Tree, is_array, items, map_leaves, rebuild

_LEAVES = (*NUMBERS, str, bytes, type(None), set, frozenset, np.generic)
_KEYS = (*NUMBERS, str, bytes, type(None), tuple, np.number, np.bool_)
_AS_THEY_ARE = frozenset({bool, int, float, str, bytes, type(None)})
_SEQUENCES = (list, tuple, deque)
CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, tuple)
"""The containers that are surely nobody else's; another may be a pytree of some framework."""


class Kind(abc.ABC):
    """How one kind of object is captured and restored. A new kind is a class here and a row of `KINDS`."""

    is_open: ClassVar[bool] = False
    """Whether the object takes or refuses a state as a whole."""

    @abc.abstractmethod
    def includes(self, node: object) -> bool:
        """Say whether an object is of this kind."""

    def recognizes(self, node: Any) -> bool:
        """Say whether an object of this kind is surely of no framework."""
        return True

    def replaces(self, node: Any) -> bool:
        """Say whether `restore` returns another object."""
        return False

    def mismatches(self, node: Any, state: Tree) -> Sequence[Mismatch]:
        """Return what in a file's state an open object cannot take."""
        return ()

    @abc.abstractmethod
    def capture(self, node: Any, path: str) -> Tree:
        """Return the object's state, arrays still shared with it; `path` is where it is, for errors."""

    @abc.abstractmethod
    def restore(self, node: Any, state: Tree) -> Any:
        """Put a state into the object, and return it or what replaces it."""


@final
class _LeafKind(Kind):
    """A number, text, bytes, None or a set."""

    def includes(self, node: object) -> bool:
        return isinstance(node, _LEAVES)

    def replaces(self, node: Any) -> bool:
        return not isinstance(node, set)

    def capture(self, node: Any, path: str) -> Tree:
        if isinstance(node, set | frozenset):
            return set(node)
        return node.item() if isinstance(node, np.str_ | np.bytes_) else node

    def restore(self, node: Any, state: Tree) -> Any:
        if isinstance(node, np.generic):
            return node.dtype.type(state)
        if isinstance(node, set):
            node.clear()
            node.update(state)
            return node
        if isinstance(node, frozenset):
            return frozenset(state)
        return state.item() if isinstance(node, NUMBERS) and is_array(state) else state


@final
class _ArrayKind(Kind):
    """A NumPy array, overwritten where it is, unless it cannot be written to."""

    def includes(self, node: object) -> bool:
        return isinstance(node, np.ndarray)

    def replaces(self, node: NDArray[Any]) -> bool:
        return not node.flags.writeable

    def capture(self, node: NDArray[Any], path: str) -> Tree:
        if node.dtype.hasobject or node.dtype.names is not None or isinstance(node, np.ma.MaskedArray):
            masked = "a masked array" if isinstance(node, np.ma.MaskedArray) else f"an array of the dtype {node.dtype}"
            what = "a NumPy array of Python objects" if node.dtype.hasobject else masked
            raise UnsupportedModule(
                f"`{path or '(root)'}` is {what}, which cannot be stored; allowed: arrays of numbers. Keep it as a "
                "list, or as arrays of numbers in a dict"
            )
        return node

    def restore(self, node: NDArray[Any], state: Tree) -> Any:
        if not node.flags.writeable:
            return taken(state, node.dtype)
        node[...] = state
        return node


@final
class _GeneratorKind(Kind):
    """A random generator of NumPy's or Python's own."""

    is_open = True

    def includes(self, node: object) -> bool:
        return generators.includes(node)

    def mismatches(self, node: Any, state: Tree) -> Sequence[Mismatch]:
        return generators.mismatches(node, state)

    def capture(self, node: Any, path: str) -> Tree:
        return generators.capture(node)

    def restore(self, node: Any, state: Tree) -> Any:
        if found := generators.mismatches(node, state):
            raise LoadMismatch(f"the file's state does not fit this {type(node).__name__}: {found[0]}")
        generators.restore(node, state)
        return node


@final
class _DequeKind(Kind):
    """A deque, which takes as many entries as the file has and its own length allows."""

    def includes(self, node: object) -> bool:
        return isinstance(node, deque)

    def recognizes(self, node: Any) -> bool:
        return all(map(recognizes, node))

    def capture(self, node: Any, path: str) -> Tree:
        return Growing(_captured(enumerate(node), path))

    def restore(self, node: Any, state: Tree) -> Any:
        own = list(node)
        restored = [
            _resembling(own[min(number, len(own) - 1)], each) if own else _new(each)
            for number, each in enumerate(state)
        ]
        node.clear()
        node.extend(restored)
        return node


def _new(saved: Tree) -> Tree:
    """Return a saved tree, its arrays copied, those without dimensions as the numbers that they were."""
    return map_leaves(lambda _path, leaf: taken(leaf)[()] if isinstance(leaf, np.ndarray) else leaf, saved)


def _new_state(saved: Tree) -> Tree:
    """Return a saved state, its arrays copied; files of before have states that are packed by now as trees."""
    return unpack(saved) if is_packed(saved) else _new(saved)


def _resembling(own: Any, saved: Tree) -> Tree:
    """Return a saved tree, its arrays copied, with what another one has of numbers and of deques."""
    is_number = isinstance(own, np.generic | bool | int | float | complex)
    if is_number and (isinstance(saved, np.ndarray) or is_array(saved)) and saved.ndim == 0:
        return own.dtype.type(saved) if isinstance(own, np.generic) else saved.item()
    children = items(saved)
    if children is None:
        return taken(saved) if isinstance(saved, np.ndarray) else saved
    theirs = dict(own.items() if isinstance(own, Mapping) else enumerate(own) if isinstance(own, _SEQUENCES) else ())
    made = rebuild(saved, [_resembling(theirs.get(key), child) for key, child in children])
    return deque(made, own.maxlen) if isinstance(own, deque) and isinstance(made, list) else made


class Kept(abc.ABC):
    """An object of our own whose state is plain, and of which a file decides all: what is there, and how large.

    Attributes:
        is_packed: whether the state is many small values, which checkpoints hold as one entry.
    """

    is_packed: ClassVar[bool] = False

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state, in plain containers; arrays in it may be shared with the object."""

    @abc.abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state, whose arrays are the object's own from then on.

        Raises:
            LoadMismatch: if it is the state of something else.
        """


@final
class _StatefulKind(Kind):
    """An object with ``state_dict`` and ``load_state_dict``, which decides by itself what it takes."""

    is_open = True

    def includes(self, node: object) -> bool:
        kind = type(node)
        return callable(getattr(kind, "state_dict", None)) and callable(getattr(kind, "load_state_dict", None))

    def recognizes(self, node: Any) -> bool:
        return isinstance(node, Kept)  # of any other, the modules beside it tell whose it is

    def capture(self, node: Any, path: str) -> Tree:
        state = node.state_dict()
        if not (isinstance(node, Kept) and node.is_packed):
            return capture(state, path)
        try:
            return pack(state)
        except UnsupportedModule:  # captured it may be plain
            return pack(capture(state, path))

    def restore(self, node: Any, state: Tree) -> Any:
        try:
            node.load_state_dict(_new_state(state) if isinstance(node, Kept) else _resembling(node.state_dict(), state))
        except KeepfastError:
            raise
        except Exception as error:
            raise LoadMismatch(f"{type(node).__qualname__} cannot load the file's state: {error}") from error
        return node


@final
class _ContainerKind(Kind):
    """A dictionary, list or tuple, in which arrays are overwritten and all else, and tuples, replaced."""

    def includes(self, node: object) -> bool:
        return isinstance(node, MutableMapping | list | tuple)

    def recognizes(self, node: Any) -> bool:
        return type(node) in CONTAINERS and all(recognizes(child) for _, child in items(node) or ())

    def replaces(self, node: Any) -> bool:
        return isinstance(node, tuple) and any(kind_of(child).replaces(child) for child in node)

    def capture(self, node: Any, path: str) -> Tree:
        if isinstance(node, MutableMapping):
            plain = next((kind for kind in (Counter, OrderedDict) if isinstance(node, kind)), dict)
            _check_keys(node, path)
            return plain(dict(zip(node, _captured(node.items(), path), strict=True)))
        if fields := getattr(node, "_fields", None):
            return dict(zip(fields, _captured(zip(fields, node, strict=True), path), strict=True))
        children = _captured(enumerate(node), path)
        return children if isinstance(node, list) else tuple(children)

    def restore(self, node: Any, state: Tree) -> Any:
        if isinstance(node, MutableMapping):
            for key in list(node):
                node[key] = restore(node[key], state[key])
        elif isinstance(node, list):
            node[:] = [restore(own, theirs) for own, theirs in zip(node, state, strict=True)]
        else:
            saved = list(state.values()) if isinstance(state, Mapping) else state
            return rebuild(node, [restore(own, theirs) for own, theirs in zip(node, saved, strict=True)])
        return node


def _captured(children: Any, path: str) -> list[Tree]:
    return [capture(child, f"{path}.{key}" if path else str(key)) for key, child in children]


def _check_keys(node: Mapping[Any, Any], path: str) -> None:
    for key in node:
        if not isinstance(key, _KEYS):
            raise UnsupportedModule(
                f"`{path or '(root)'}` has the key {as_given(key)}, a {type(key).__module__}.{type(key).__qualname__}; "
                "allowed: strings, numbers and tuples of them"
            )
    if len({str(key) for key in node}) != len(node):
        raise InvalidValue(f"two keys of `{path or '(root)'}` read the same, so a file could not tell them apart")


KINDS: tuple[Kind, ...] = (
    _LeafKind(),
    _ArrayKind(),
    _GeneratorKind(),
    _DequeKind(),
    _StatefulKind(),
    _ContainerKind(),
)
"""Every kind of object, asked in this order."""


def find_kind(node: object) -> Kind | None:
    """Return the kind of an object, or None for one that has no state to capture."""
    return next((kind for kind in KINDS if kind.includes(node)), None)


def recognizes(node: object) -> bool:
    """Say whether an object, with all that is in it, is surely of no framework."""
    kind = find_kind(node)
    return kind is not None and kind.recognizes(node)


def kind_of(node: object, path: str = "") -> Kind:
    """Return the kind of an object.

    Raises:
        UnsupportedModule: if it is of none; names the path.
    """
    kind = find_kind(node)
    if kind is None:
        raise UnsupportedModule(
            f"`{path or '(root)'}` is a {type(node).__module__}.{type(node).__qualname__}, which cannot be stored; "
            "allowed: numbers, strings, bytes, None, NumPy arrays and random generators, deques, and dicts, lists, "
            "tuples and sets of them"
        )
    return kind


def capture(node: Any, path: str = "") -> Tree:
    """Return the state of an object, its arrays still shared with it.

    Raises:
        UnsupportedModule: if a part of it is nothing that a file can hold; names its path.
    """
    if type(node) in _AS_THEY_ARE:  # most of a state are such, and to ask each kind took half of the time
        return node
    return kind_of(node, path).capture(node, path)


def restore(node: Any, state: Tree) -> Any:
    """Put a state into an object, and return it or what replaces it."""
    return kind_of(node).restore(node, state)
