"""Finds the backend of whatever is at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.backend import Backend
from keepfast.errors import UnknownPlugin, UnsupportedModule
from keepfast.plugins import lazy, registry

ENVIRONMENT = "KEEPFAST_BACKEND"
"""The environment variable that names the backend where the configuration says "auto"."""

RANK_VARIABLES = ("RANK", "SLURM_PROCID")
"""The environment variables in which launchers tell a process its rank: torchrun, and SLURM."""

_made: dict[str, Backend] = {}


def backend_named(name: str) -> Backend:
    """Return the backend of a name; each is made once in a process.

    Raises:
        UnknownPlugin: if no plugin provides it.
        PluginConflict: if two plugins do; names both.
        MissingDependency: if its framework is not installed; says what to run.
    """
    factory = registry().get("backend", name)
    if name not in _made:
        _made[name] = factory()
    return _made[name]


def configured(name: str) -> Backend | None:
    """Return the backend that a configuration and the environment name, or None where they leave it open.

    Raises:
        UnknownPlugin: if no plugin provides it; says so where the name came from the environment.
        PluginConflict: if two plugins do; names both.
        MissingDependency: if its framework is not installed; says what to run.
    """
    if name != "auto":
        return backend_named(name)
    name = os.environ.get(ENVIRONMENT) or "auto"
    try:
        return None if name == "auto" else backend_named(name)
    except UnknownPlugin as error:
        raise UnknownPlugin(f"the environment variable `{ENVIRONMENT}` names an {error}") from None


def loaded() -> Iterator[Backend]:
    """Yield the backends whose framework the process has imported already, without those that fail.

    A third party's backend that names no framework counts as loaded.
    """
    for provided in registry().provided("backend"):
        framework = provided.factory.requires[:1] if isinstance(provided.factory, lazy) else ()
        if any(package not in sys.modules for package in framework):
            continue
        backend = _made.get(provided.name) or registry().make(provided)
        if backend is not None:
            yield _made.setdefault(provided.name, backend)


def recognize(module: object) -> Backend | None:
    """Return the backend that knows a module, or None.

    Only backends whose framework is loaded are asked: whoever holds one of its modules has loaded it.
    """
    return next((backend for backend in loaded() if backend.recognizes(module)), None)


def process_rank() -> int:
    """Return this process's rank among those of a distributed run, 0 where it runs alone.

    A framework that is set up for a distributed run knows best; else a launcher's RANK or SLURM_PROCID tells.
    """
    ranks = [rank for rank in (backend.rank() for backend in loaded()) if rank is not None]
    if ranks:
        return max(ranks)
    found = next((os.environ[name] for name in RANK_VARIABLES if os.environ.get(name, "").isdigit()), "0")
    return int(found)


def backend_of(module: object, named: Backend | None, others: Sequence[Backend] = ()) -> Backend:
    """Return the backend for a module: the named one, the one that knows it, or one that its companions have.

    Args:
        module: the module.
        named: the backend that the configuration names, if it does.
        others: backends of modules registered beside it, for objects that only have ``state_dict``.

    Raises:
        UnsupportedModule: if nobody can capture it; says what to install for the backends that are not ready.
    """
    backend = named or recognize(module) or next(iter(others), None)
    if backend is None:
        raise UnsupportedModule(
            f"no backend knows what to do with a {type(module).__module__}.{type(module).__qualname__}; "
            f'name one in the configuration ("backend"), known: {", ".join(registry().names("backend"))}{_unready()}'
        )
    return backend


def _unready() -> str:
    """Return a line for each backend whose framework is not installed, with what to run."""
    known = [(provided.name, provided.status) for provided in registry().provided("backend")]
    return "".join(f"\n  {name} {status}" for name, status in known if status != "ready")


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
