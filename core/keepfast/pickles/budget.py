"""What a pickle may ask for, by its size: long arguments and the hashes of keys are charged before they are taken."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import Any, final

from keepfast.pickles.objects import Pickled
from keepfast.tree import Unread

_WORK, _WORK_IN_A_BYTE = 1 << 20, 4
"""How many bytes and entries the functions of the table may be given, at the least and by the size of the pickle."""

SHARED = 1_000_000
"""How many more entries than bytes a pickle may have: an object that stands in several places is stored once."""

_DEEPEST = 10_000
"""How many containers may be in each other; whoever goes through them by recursion ends long before."""

_DEEPEST_KEY = 500
"""How many tuples may be in each other in a key, whose hash is taken by a recursion in C."""

_WIDE = 1 << 64
"""Of the integers above, any number have one hash, which is made of all their bytes each time it is asked for."""

_ALIKE = (tuple, frozenset, complex)
"""Keys of which a file can have any number with one hash: those of texts and bytes are another's in each process."""

_PLAIN_KEYS = (str, bytes, bool, int, type(None), float, complex, Unread, Pickled)
_SIZED = (str, bytes, bytearray, tuple, list, dict, set, frozenset)


@final
class _HasLength(dict[type, bool]):
    """Whether the length of what is of a class is charged, each class looked at once: it is asked of all arguments."""

    def __missing__(self, kind: type) -> bool:
        self[kind] = issubclass(kind, _SIZED)
        return self[kind]


_has_length = _HasLength()


@final
class Budget:
    """What is left of the work that a pickle of its size may ask for."""

    __slots__ = ("_alike", "_made", "left")

    def __init__(self, size: int) -> None:
        self.left = _WORK + _WORK_IN_A_BYTE * size
        self._alike, self._made = Counter[int](), count(1 << 64)

    def spend(self, amount: int) -> None:
        """Take so much away from what is left.

        Raises:
            UnpicklingError: if it is more than that.
        """
        self.left -= amount
        if self.left < 0:
            raise pickle.UnpicklingError("the pickle asks for more than one of its size may")

    def fresh(self) -> int:
        """Return what identifies a container that is still to be made, as no `id` does."""
        return next(self._made) << 64

    def spend_on_alike(self, key: Any, into: int) -> None:
        """Charge a key for those before it with which it is compared, in the container that is told."""
        if isinstance(key, _ALIKE) or (type(key) is int and not -_WIDE < key < _WIDE):
            place = hash(key) ^ into
            self._alike[place] += 1
            self.spend(self._alike[place])

    def spend_on(self, arguments: tuple[Any, ...]) -> None:
        """Charge the lengths of what a function is given, and of what is in it where that is a tuple."""
        amount = 1 + len(arguments)
        for argument in arguments:
            if _has_length[type(argument)]:
                amount += len(argument)
                if type(argument) is tuple and len(argument) < 16:
                    for part in argument:
                        if _has_length[type(part)]:
                            amount += len(part)
        self.left -= amount
        if self.left < 0:
            self.spend(0)


def checked_key(key: Any, budget: Budget, into: int) -> Any:
    """Return a key or a member of a set, which takes no longer to find its place than the budget has.

    Args:
        key: the key.
        budget: what is left.
        into: what identifies the container, its `id`.

    Raises:
        UnpicklingError: if it is none: not plain, or tuples in each other without end.
    """
    pending = [iter((key,))]
    while pending:
        for part in pending[-1]:
            budget.spend(1)
            if isinstance(part, tuple | frozenset):
                pending.append(iter(part))
                break
            if type(part) is int and not -_WIDE < part < _WIDE:
                budget.spend(part.bit_length() >> 5)
            elif type(part) not in _PLAIN_KEYS:
                raise pickle.UnpicklingError(f"a {type(part).__name__} is no key")
        else:
            pending.pop()
        if len(pending) > _DEEPEST_KEY:
            raise pickle.UnpicklingError("a key is of tuples in each other without end")
    budget.spend_on_alike(key, into)
    return key


def require_at_most(size: int, value: Any) -> None:
    """Check that a value has few more entries than its pickle has bytes: forty lists, each twice in the next, have not.

    Raises:
        UnpicklingError: if it has more.
    """
    pending, limit = [iter((value,))], size + SHARED
    while pending:
        for node in pending[-1]:
            if isinstance(node, _CONTAINERS):
                limit -= len(node) * (2 if isinstance(node, dict) else 1)
                # Most have no containers in them, which is seen fastest by the classes of their parts.
                if limit >= 0 and any(issubclass(kind, _CONTAINERS) for kind in {*map(type, _inner(node))}):
                    pending.append(_inner(node))
                    break
        else:
            pending.pop()
        if limit < 0 or len(pending) > _DEEPEST:
            raise pickle.UnpicklingError("the pickle repeats its parts without end")


def require_few_parts(most: int, value: Any) -> None:
    """Check that no container of what a pickle holds has more parts than that, each counted wherever it stands.

    Whoever compares, hashes or shows one goes through them all: forty tuples, each twice in the next, have no end. What
    is in an object is counted by itself.

    Raises:
        UnpicklingError: if one has more, or is in itself.
    """
    sizes, objects, waiting = dict[int, int](), set[int](), [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Pickled) and id(part) not in objects:
            objects.add(id(part))
            waiting += [part.arguments, part.attributes, part.parts]
        elif isinstance(part, _CONTAINERS) and id(part) not in sizes:
            waiting += _measured(part, sizes, most)


def _measured(container: Any, sizes: dict[int, int], most: int) -> list[Pickled]:
    """Tell the sizes of a container and of all that are in it, and return the objects there."""
    found = list[Pickled]()
    pending, counts = [(container, _inner(container))], [1]
    sizes[id(container)] = most  # as long as it is open, so that one that is in itself has too many
    while pending:
        for part in pending[-1][1]:
            if isinstance(part, _CONTAINERS) and id(part) not in sizes:
                sizes[id(part)] = most
                pending.append((part, _inner(part)))
                counts.append(1)
                break
            found += [part] if isinstance(part, Pickled) else []
            counts[-1] += sizes.get(id(part), 1) if isinstance(part, _CONTAINERS) else 1
        else:
            done, size = pending.pop()[0], counts.pop()
            if size > most:
                raise pickle.UnpicklingError("the pickle repeats its parts without end")
            sizes[id(done)] = size
            if counts:
                counts[-1] += size
    return found


def _inner(container: Any) -> Iterator[Any]:
    return chain(container, container.values()) if isinstance(container, dict) else iter(container)


_CONTAINERS = (dict, list, tuple, set, frozenset)
_HASHING: tuple[Any, ...] = (set, frozenset, Counter)
"""Functions that take the hashes of what is in their argument."""


@final
class StandIn:
    """A function that a pickle may call but not change, for as much as its budget has."""

    __slots__ = ("_budget", "_function", "_hashes")

    def __init__(self, function: Callable[..., Any], budget: Budget) -> None:
        self._function, self._budget, self._hashes = function, budget, function in _HASHING

    def charged(self) -> Any:
        """Return what it returns without arguments, where that was charged before."""
        return self._function()

    def __call__(self, *args: Any) -> Any:  # noqa: D102  (the function's)
        self._budget.spend_on(args)
        if self._hashes:
            into = self._budget.fresh()
            for argument in args:
                for member in argument:
                    checked_key(member, self._budget, into)
        return self._function(*args)
