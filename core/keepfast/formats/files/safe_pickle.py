"""An unpickler that runs nothing: the names a pickle may use are a table, and all else is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, BinaryIO, final

_SHARED = 1_000_000
"""How many more entries than bytes a pickle may have: an object that stands in several places is stored once."""

Admitted = Mapping[str, Any]
"""What a pickle may name, as ``module.name``, and the plain data or the function of ours that stands in for it."""


@final
class CodeRefused(Exception):
    """A pickle names something that is not in the table.

    Args:
        name: what it names, ``module.name``.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@final
class StandIn:
    """A function that a pickle may call but not change: the BUILD instruction sets attributes of what it is given."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:  # noqa: D102  (the function's)
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("the pickle tries to change a function")


def safe_load(file: BinaryIO, admitted: Admitted, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Return what a pickle of containers, numbers, strings and bytes, and of what a table admits beside them, holds.

    Args:
        file: the pickle.
        admitted: the table; its functions are called with whatever arguments the pickle has for them.
        persistent: turns what the pickle says of data kept outside it into that data.

    Raises:
        CodeRefused: if the pickle names anything else; nothing of it has run.
        Exception: nearly any, if it is damaged.
    """
    start = file.tell()
    try:
        value = _Unpickler(file, admitted, persistent).load()
    except MemoryError as error:  # a damaged length asks for more than there is
        raise pickle.UnpicklingError("the pickle asks for more memory than there is") from error
    _require_at_most(file.seek(0, 2) - start + _SHARED, value)
    return value


def _require_at_most(limit: int, value: Any) -> None:
    """Refuse a value of more entries than that: forty lists, each twice in the next, are a million million entries."""
    pending = [iter((value,))]
    while pending:
        for node in pending[-1]:
            limit -= 1
            if isinstance(node, dict):
                pending.append(chain(node, node.values()))
                break
            if isinstance(node, list | tuple | set | frozenset):
                pending.append(iter(node))
                break
        else:
            pending.pop()
        if limit < 0:
            raise pickle.UnpicklingError("the pickle repeats its parts without end")


@final
class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, admitted: Admitted, persistent: Callable[[Any], Any] | None) -> None:
        super().__init__(file)
        self._admitted = admitted
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full not in self._admitted:
            raise CodeRefused(full)
        found = self._admitted[full]
        return StandIn(found) if callable(found) else found

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise pickle.UnpicklingError("the pickle refers to data outside it")
        return self._persistent(pid)
