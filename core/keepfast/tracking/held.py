"""Holds values of any framework as they are now, and fetches them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, as_given
from keepfast.interfaces.backend import Backend
from keepfast.interfaces.step_buffer import StepBuffer, Steps, joined_steps
from keepfast.plugins.backends import recognize


@final
class Holder:
    """Holds values of any framework and fetches them together; asks for a type's backend once."""

    def __init__(self) -> None:
        self._backends: dict[type, Backend | None] = {np.ndarray: None}

    def hold(self, value: Any) -> Any:
        """Return something that keeps the value as it is now, without waiting for its device."""
        kind = type(value)
        if kind is np.ndarray:
            return value.copy()
        if kind is float or kind is bool or kind is int:
            return value
        backend = self._backends[kind] if kind in self._backends else self._find(value)
        return np.array(value) if backend is None else _Held(backend, backend.hold(value))

    def _find(self, value: Any) -> Backend | None:
        backend = recognize(value) if hasattr(value, "dtype") else None
        if backend is None and np.array(value).dtype.hasobject:
            raise InvalidValue(f"{as_given(value)} ({type(value).__name__}) has no values; give an array or a number")
        self._backends[type(value)] = backend
        return backend

    def fetch(self, held: Sequence[Any]) -> list[NDArray[Any]]:
        """Return every held value as a NumPy array, in one transfer per framework."""
        found: list[Any] = [None if isinstance(value, _Held) else np.asarray(value) for value in held]
        foreign: dict[int, tuple[Backend, list[int]]] = {}
        for position, value in enumerate(held):
            if isinstance(value, _Held):
                foreign.setdefault(id(value.backend), (value.backend, []))[1].append(position)
        for backend, positions in foreign.values():
            for position, array in zip(positions, backend.fetch([held[p].value for p in positions]), strict=True):
                found[position] = array
        return found


@final
class _Held:
    """A held value beside the backend that can fetch it."""

    __slots__ = ("backend", "value")

    def __init__(self, backend: Backend, value: Any) -> None:
        self.backend, self.value = backend, value


@final
class HeldSteps(StepBuffer):
    """Holds arrays of any kinds, each on its own, and fetches them together."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._held: list[Any] = []

    def add(self, rewards: Any, terminated: Any, truncated: Any) -> None:  # noqa: D102  (the interface's)
        self._held += [self._holder.hold(part) for part in (rewards, terminated, truncated)]  # all or none

    def take(self) -> Steps:  # noqa: D102  (the interface's)
        held, self._held = self._held, []
        fetched = self._holder.fetch(held)
        return joined_steps([fetched[0::3], fetched[1::3], fetched[2::3]])
