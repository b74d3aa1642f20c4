"""What a pickle may ask for, by its size: long arguments and the hashes of keys are charged before they are taken."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any, final

from keepfast.pickles.objects import Pickled
from keepfast.tree import Unread

_WORK, _WORK_IN_A_BYTE = 1 << 20, 4
"""How many bytes and entries the functions of the table may be given, at the least and by the size of the pickle."""

_DEEPEST_KEY = 500
"""How many tuples may be in each other in a key, whose hash is taken by a recursion in C."""

_WIDE = 1 << 64
"""Of the integers above, any number have one hash."""

_PLAIN_KEYS = (str, bytes, bool, int, type(None), float, complex, Unread, Pickled)
_SIZED = (str, bytes, bytearray, tuple, list, dict, set, frozenset)


@final
class Budget:
    """What is left of the work that a pickle of its size may ask for."""

    __slots__ = ("_alike", "_left")

    def __init__(self, size: int) -> None:
        self._left = _WORK + _WORK_IN_A_BYTE * size
        self._alike = Counter[int]()

    def spend(self, amount: int) -> None:
        """Take so much away from what is left.

        Raises:
            UnpicklingError: if it is more than that.
        """
        self._left -= amount
        if self._left < 0:
            raise pickle.UnpicklingError("the pickle asks for more than one of its size may")

    def spend_on_wide(self, key: int) -> None:
        """Charge a key for those before it with which it may be compared."""
        self._alike[hash(key)] += 1
        self.spend(self._alike[hash(key)])

    def spend_on(self, arguments: tuple[Any, ...]) -> None:
        """Charge the lengths of what a function is given, and of what is in it where that is a tuple."""
        amount = 1 + len(arguments)
        for argument in arguments:
            if isinstance(argument, _SIZED):
                amount += len(argument)
                if type(argument) is tuple and len(argument) < 16:
                    amount += sum(len(part) for part in argument if isinstance(part, _SIZED))
        self.spend(amount)


def checked_key(key: Any, budget: Budget) -> Any:
    """Return a key or a member of a set, whose hash takes no longer than the budget has.

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
                budget.spend_on_wide(part)
            elif type(part) not in _PLAIN_KEYS:
                raise pickle.UnpicklingError(f"a {type(part).__name__} is no key")
        else:
            pending.pop()
        if len(pending) > _DEEPEST_KEY:
            raise pickle.UnpicklingError("a key is of tuples in each other without end")
    return key


_HASHING: tuple[Any, ...] = (set, frozenset, Counter)
"""Functions that take the hashes of what is in their argument."""


@final
class StandIn:
    """A function that a pickle may call but not change, for as much as its budget has."""

    __slots__ = ("_budget", "_function")

    def __init__(self, function: Callable[..., Any], budget: Budget) -> None:
        self._function, self._budget = function, budget

    def __call__(self, *args: Any) -> Any:  # noqa: D102  (the function's)
        self._budget.spend_on(args)
        if self._function in _HASHING:
            for argument in args:
                for member in argument:
                    checked_key(member, self._budget)
        return self._function(*args)
