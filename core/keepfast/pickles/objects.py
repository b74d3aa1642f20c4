"""Objects of a pickle, as what they are made of: no class of theirs is imported, and nothing of them is called."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, final

from keepfast.tree import Unread


@final
class Pickled:
    """An object that was not made. As a key, or a member of a set, it is itself alone.

    Attributes:
        path: the name of its class, or of the function that makes it: ``numpy.dtype``.
        arguments: what that would be given.
        attributes: the state that it would be given then: a dict of its attributes, mostly.
        parts: what would be put into it, where it is a list, a set or, in pairs, a dict.
    """

    __slots__ = ("arguments", "attributes", "parts", "path")

    def __init__(self, path: str, arguments: tuple[Any, ...]) -> None:
        self.path, self.arguments = path, arguments
        self.attributes: Any = {}
        self.parts: list[Any] = []

    @classmethod
    def made(cls, name: Unread, given: list[Any]) -> Pickled:
        """Return the object of a class and of its arguments, named ones left out.

        Raises:
            UnpicklingError: if they are no arguments.
        """
        if type(given[0]) is not tuple:
            raise pickle.UnpicklingError("the pickle has arguments that are no tuple")
        return cls(name.name, given[0])

    def __setstate__(self, state: Any) -> None:
        self.attributes = state[1] if isinstance(state, tuple) and len(state) == 2 and state[1] else state

    def append(self, item: Any) -> None:
        """Keep what a list of this class would."""
        self.parts.append(item)

    def extend(self, items: Iterable[Any]) -> None:
        """Keep what a list of this class would."""
        self.parts += items

    update = extend

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep what a dict of this class would."""
        self.parts.append((key, value))
