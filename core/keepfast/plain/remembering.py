"""Remembers an object with all that a load can change of it, and puts it back as it was.

An object is walked through: its attributes, the containers that these are, and the objects in them. Of a container the
entries are kept, of an array that can be written to the values, of whatever is immutable the thing itself. So an
object is put back without a call of its own, which may be what failed.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, final

import numpy as np

from keepfast._system.memory.room import memory_for
from keepfast.interfaces.backend import Backend
from keepfast.plain import generators
from keepfast.tree import Tree, values

Back = Callable[[], None]
"""Puts one thing back as it was."""

SMALL = 1 << 20
"""Of how many bytes an array is kept also where it is no part of the captured state."""

_DEEPEST = 3
"""How many objects below another are walked into, but for those that a framework makes modules of."""

_CLOSED = (
    *(ModuleType, type, FunctionType, BuiltinFunctionType, MethodType, functools.partial),
    *(PurePath, threading.Thread, str, bytes, int, float, complex, type(None)),
)
"""What is walked past: nothing of a module's state is in it."""

_LEAVES = frozenset({bool, *_CLOSED})
"""The same by their own types, which are told faster."""


@final
class Remembered:
    """An object as it was.

    Args:
        root: the object.
        backend: knows its arrays.
        captured: its captured tree. Large arrays that it does not have are left out of what is kept.
        numbers: whether arrays are written to meanwhile, so that what is in them has to be kept too.
        besides: arrays of it whose numbers another keeps.
    """

    def __init__(
        self, root: Any, backend: Backend, captured: Tree, *, numbers: bool = True, besides: Iterable[Any] = ()
    ) -> None:
        self._backend, self._numbers, self._seen, self._back = backend, numbers, dict[int, Any](), list[Back]()
        self._captured = captured  # by whose parts' ids places are known
        self._places = {id(leaf): self._place(leaf) for leaf in values(captured) if type(leaf) not in _LEAVES}
        self._told = set(self._places.values()) - {None}
        self._besides = {self._place_of(array) for array in besides}
        self.reached: set[int] = set()
        self._walk(root, -1)

    def put_back(self) -> None:
        """Put everything back, the last that was found first."""
        for back in reversed(self._back):
            back()

    def reaches(self, leaf: Any) -> bool:
        """Say whether a leaf of the captured tree is among what is put back, or can never change."""
        place = self._place_of(leaf)
        return place is None or place in self.reached

    def _place_of(self, leaf: Any) -> int | None:
        """Return the place of a leaf, mostly of the captured tree, whose places were asked for once."""
        return self._places[id(leaf)] if id(leaf) in self._places else self._place(leaf)

    def _place(self, leaf: Any) -> int | None:
        """Return where the memory of an array is that can be written to; None of all else."""
        if isinstance(leaf, np.ndarray):
            return int(leaf.__array_interface__["data"][0])
        return self._backend.place_of(leaf)

    def _walk(self, root: Any, depth: int) -> None:
        stack = [(root, depth)]
        while stack:
            node, depth = stack.pop()
            if type(node) in _LEAVES or id(node) in self._seen:
                continue
            self._seen[id(node)] = node
            if type(node) is dict or type(node) is OrderedDict:  # as most are, and most of them empty
                for own in (node,) if type(node) is dict else (node, vars(node)):
                    kept = dict(own)
                    self._back.append(functools.partial(_put_entries, own, kept))
                    stack += [(child, depth) for child in kept.values() if type(child) not in _LEAVES]
            elif isinstance(node, _CLOSED):
                continue
            elif (place := self._place(node)) is not None:
                self._keep_array(node, place)
            elif generators.includes(node):
                self._back.append(_generator(node))
            elif (children := self._contents(node)) is not None:
                stack += [(child, depth) for child in children]
            elif self._is_open(node, depth):
                inner = depth if depth >= 0 and self._backend.is_part(node) else depth + 1
                stack += [(child, inner) for child in self._attributes(node)]

    def _keep_array(self, array: Any, place: int) -> None:
        if place not in self._told and int(array.nbytes) > SMALL:
            return
        self.reached.add(place)
        numbers = self._numbers and place not in self._besides
        if not isinstance(array, np.ndarray):
            self._back.append(self._backend.remember(array, numbers=numbers))
        elif numbers:
            self._back.append(_array(array))

    def _contents(self, node: Any) -> Iterable[Any] | None:
        """Keep what is in a container, and return it; None where it is no container."""
        if isinstance(node, tuple | frozenset):
            return node
        keep = next((keep for kind, keep in _CONTAINERS.items() if isinstance(node, kind)), None)
        if keep is None:
            return None
        back, children = keep(node)
        self._back.append(back)
        return [*children, *(self._attributes(node) if hasattr(node, "__dict__") else ())]

    def _is_open(self, node: Any, depth: int) -> bool:
        """Say whether to walk into an object: the root itself, a module or its part, or one not far below these."""
        if depth < 0 or self._backend.is_part(node):
            return True
        kind = type(node)
        if depth >= _DEEPEST:
            return False
        ours = any(each.__module__.partition(".")[0] == "keepfast" for each in kind.__mro__)
        return not ours and not all(hasattr(kind, call) for call in ("step", "reset"))

    def _attributes(self, node: Any) -> list[Any]:
        """Keep the attributes of an object, and return them."""
        own = getattr(node, "__dict__", None)
        slots = dict(_slots(node))
        if slots or own is None:
            self._back.append(lambda: _put_slots(node, slots))
        if type(own) is not dict:
            return list(slots.values())
        kept = dict(own)
        self._back.append(lambda: _put_entries(own, kept))
        return [*kept.values(), *slots.values()]


def _slots(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object that are not in its dictionary, as it itself has them."""
    for name, slot in _slots_of(type(node)):
        with contextlib.suppress(AttributeError):
            yield name, slot.__get__(node)


def _slots_of(kind: type) -> list[tuple[str, Any]]:
    if (known := _known_slots.get(kind)) is None:
        described = [pair for each in kind.__mro__ for pair in each.__dict__.items()]
        known = _known_slots[kind] = [pair for pair in described if isinstance(pair[1], MemberDescriptorType)]
    return known


_known_slots = weakref.WeakKeyDictionary[type, list[tuple[str, Any]]]()
"""The attributes of classes that are not in a dictionary, which a class gets once and for all."""


def _put_slots(node: Any, kept: Mapping[str, Any]) -> None:
    now = dict(_slots(node))
    for name in now.keys() - kept.keys():
        object.__delattr__(node, name)
    for name, value in kept.items():
        if now.get(name, kept) is not value:
            object.__setattr__(node, name, value)


def _put_entries(own: dict[Any, Any], kept: dict[Any, Any]) -> None:
    """Give a dictionary the entries that it had, in their order; one that has them is not touched."""
    if len(own) == len(kept) and all(
        one is other and own[one] is kept[other] for one, other in zip(own, kept, strict=True)
    ):
        return
    kind = OrderedDict if isinstance(own, OrderedDict) else dict  # not a class's own, which may do more
    kind.clear(own)
    kind.update(own, kept)


def _keep_dict(node: dict[Any, Any]) -> tuple[Back, Iterable[Any]]:
    kept = dict(node)
    return lambda: _put_entries(node, kept), kept.values()


def _keep_mapping(node: MutableMapping[Any, Any]) -> tuple[Back, Iterable[Any]]:
    kept = dict(node)

    def back() -> None:
        for key in [key for key in node if key not in kept]:
            del node[key]
        for key, value in kept.items():
            if key not in node or node[key] is not value:
                node[key] = value

    return back, kept.values()


def _keep_list(node: list[Any]) -> tuple[Back, Iterable[Any]]:
    kept = list(node)
    return lambda: list.__setitem__(node, slice(None), kept), kept


def _keep_deque(node: deque[Any]) -> tuple[Back, Iterable[Any]]:
    kept = list(node)

    def back() -> None:
        node.clear()
        node.extend(kept)

    return back, kept


def _keep_set(node: set[Any]) -> tuple[Back, Iterable[Any]]:
    kept = set(node)

    def back() -> None:
        node.clear()
        node.update(kept)

    return back, ()


def _keep_bytes(node: bytearray) -> tuple[Back, Iterable[Any]]:
    kept = bytes(node)
    return lambda: bytearray.__setitem__(node, slice(None), kept), ()


_CONTAINERS: Mapping[type, Callable[[Any], tuple[Back, Iterable[Any]]]] = {
    dict: _keep_dict,
    MutableMapping: _keep_mapping,
    list: _keep_list,
    deque: _keep_deque,
    set: _keep_set,
    bytearray: _keep_bytes,
}


def _array(array: np.ndarray[Any, Any]) -> Back:
    if not array.flags.writeable or array.dtype.hasobject:
        return lambda: None
    kept = memory_for(array.nbytes).view(array.dtype).reshape(array.shape)
    np.copyto(kept, array)

    def back() -> None:
        array[...] = kept

    return back


def _generator(generator: Any) -> Back:
    kept = generators.capture(generator)
    return lambda: generators.restore(generator, kept)
