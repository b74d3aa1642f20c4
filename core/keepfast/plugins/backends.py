"""Finds the backend of whatever is at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from keepfast._arrays import convert_with
from keepfast.errors import InvalidValue, UnknownPlugin, UnsupportedModule, as_given
from keepfast.interfaces.backend import Backend
from keepfast.plugins.discovery import registry
from keepfast.plugins.lazy import lazy

_ENVIRONMENT = "KEEPFAST_BACKEND"
"""The environment variable that names the backend where the configuration says "auto"."""

PLAIN = "plain"
"""The backend of what needs no framework."""

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
    name = os.environ.get(_ENVIRONMENT) or "auto"
    try:
        return None if name == "auto" else backend_named(name)
    except UnknownPlugin as error:
        raise UnknownPlugin(f"the environment variable `{_ENVIRONMENT}` names an {error}") from None


def _loaded() -> Iterator[Backend]:
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


def prepare() -> None:
    """Tell the backends in use that more of Keepfast is."""
    for backend in _loaded():
        backend.prepare()
        convert_with(backend.host_array)


def told() -> dict[str, Mapping[str, Any]]:
    """Return what the backends in use tell of their frameworks, by name; one that fails tells why."""
    return {backend.name: about for backend in _loaded() if (about := _told(backend))}


def _told(backend: Backend) -> Mapping[str, Any]:
    try:
        return backend.about()
    except Exception as error:  # noqa: BLE001  (a plugin's own; it is told where the answer would stand)
        return {"problem": f"{type(error).__name__}: {error}"}


def in_use(name: str) -> Backend | None:
    """Return the backend of a name if its framework is imported already, else None."""
    return _made.get(name) or next((backend for backend in _loaded() if backend.name == name), None)


def recognize(module: object) -> Backend | None:
    """Return the backend that knows a module, or None.

    Only backends whose framework is loaded are asked: whoever holds one of its modules has loaded it.
    """
    return next((backend for backend in _loaded() if backend.recognizes(module)), None)


def places(device: Any, backends: Iterable[Backend]) -> Mapping[str, Any]:
    """Return where a device that users name is for each backend, by name; None for one that has no such device.

    Raises:
        InvalidValue: if there are backends of frameworks, and none of them has such a device.
    """
    found: dict[str, Any] = {}
    refusals: list[InvalidValue] = []
    for backend in backends:
        if backend.name == PLAIN or device is None or backend.name in found:
            continue
        try:
            found[backend.name] = backend.place(device)
        except InvalidValue as error:
            found[backend.name] = None
            refusals.append(error)
        except Exception as error:
            raise InvalidValue(f"the device {as_given(device)} is none: {type(error).__name__} {error}") from error
    if refusals and len(refusals) == len(found):
        raise refusals[0]
    return found


def check_device(device: Any, modules: Iterable[object], named: Backend | None) -> None:
    """Check that there is a device, for the backends of modules, or else for all whose frameworks are in use.

    Raises:
        InvalidValue: if there is none of that name.
    """
    if device is not None:
        known = [named or recognize(module) for module in modules if module is not None]
        frameworks = [backend for backend in known if backend is not None and backend.name != PLAIN]
        places(device, frameworks or ([named] if named is not None else _loaded()))


def group_ranks() -> dict[str, int]:
    """Return this process's rank in each framework that is set up for a distributed run, by the backend's name."""
    ranks = {backend.name: backend.rank() for backend in _loaded()}
    return {name: rank for name, rank in ranks.items() if rank is not None}


def grouped() -> Backend | None:
    """Return the backend through which the processes of a distributed run know each other, or None.

    Of several it is the one where this process has the highest rank, as it is for its place in the run.
    """
    ranks = group_ranks()
    return _made[max(ranks, key=lambda name: ranks[name])] if ranks else None


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
