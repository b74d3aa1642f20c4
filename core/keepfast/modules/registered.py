"""Modules: what users register, captured into trees and restored from them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from keepfast._version import __version__
from keepfast.errors import UnsupportedModule
from keepfast.interfaces.backend import Backend
from keepfast.interfaces.checkpoint_store import FORMAT_VERSION, CheckpointMetadata
from keepfast.memories.memory import Memory
from keepfast.modules.matching import Match, match, match_open, reject
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.plugins.backends import backend_named, backend_of, configured, recognize
from keepfast.tree import Tree

Module = Any
"""A network, optimizer, train state, pytree, tensor, memory, environment, or an `Attribute` that holds one."""

ENVIRONMENTS = frozenset({"env", "envs", "environment", "environments", "env_state", "env_states", "envs_state"})
"""What environments, or states of them, are registered as."""


@final
@dataclass(frozen=True)
class Attribute:
    """A module that its owner replaces instead of changing it: a TrainState, an optax state, a params tree."""

    owner: object
    name: str

    @property
    def value(self) -> Any:
        """Return what the owner holds now."""
        return getattr(self.owner, self.name)


def attribute(owner: object, name: str) -> Attribute:
    """Name a module by the attribute that holds it, so that its present value is saved and a restored one put there.

    Args:
        owner: the object whose attribute is replaced as training goes on.
        name: the attribute's name.

    Raises:
        UnsupportedModule: if the owner has no such attribute.

    Example:
        ``agent.checkpoint_modules["policy"] = keepfast.attribute(agent, "train_state")``
    """
    if not hasattr(owner, name):
        raise UnsupportedModule(f"a {type(owner).__qualname__} has no attribute `{name}`; set it before registering it")
    return Attribute(owner, name)


@final
@dataclass(frozen=True)
class RegisteredModule:
    """A module under its name, with the backend that can handle it."""

    name: str
    module: Module
    backend: Backend

    @property
    def value(self) -> Any:
        """Return the module itself, looked up where it is replaced as training goes on."""
        return self.module.value if isinstance(self.module, Attribute) else self.module

    @property
    def is_memory(self) -> bool:
        """Say whether it is a memory, which is large and has a checkpoint interval of its own."""
        return isinstance(self.value, Memory)

    @property
    def is_environment(self) -> bool:
        """Say whether it is an environment, which can be stepped and reset, or is called so, as its state may be."""
        stepped = all(callable(getattr(self.value, call, None)) for call in ("step", "reset"))
        return stepped or self.name in ENVIRONMENTS

    @property
    def is_open(self) -> bool:
        """Say whether it decides by itself what it takes from a file."""
        return self.backend.is_open(self.value)

    def check_place(self) -> None:
        """Check that a restored module has a place to go.

        Raises:
            UnsupportedModule: if the module is replaced by a restore and nobody says where the new one goes.
        """
        value = self.value
        if self.backend.replaces(value) and not isinstance(self.module, Attribute):
            raise UnsupportedModule(
                f"`{self.name}` is a {type(value).__qualname__}, which is replaced, not changed; register it as "
                f'keepfast.attribute(owner, "{self.name}"), so that its owner gets the restored one'
            )

    def capture(self) -> Tree:
        """Return the module's present tree, its arrays still shared with it."""
        return self.backend.capture(self.value)

    def copy(self) -> Tree:
        """Return an independent copy of the module's present tree on the host."""
        return self.backend.host_copy(self.capture())

    def match(self, found: FileModule, options: LoadOptions) -> Match:
        """Compare the module with a file's.

        Raises:
            UnsupportedModule: if the module is replaced by a restore and nobody says where the new one goes.
        """
        self.check_place()
        value, own = self.value, self.capture()
        if self.is_open:
            return match_open(self.name, own, found.state, self.backend.mismatches(value, found.state))
        matched = match(self.name, own, found, options)
        return reject(matched, own, self.backend.mismatches(value, matched.state))

    def restore(self, state: Tree, device: Any) -> None:
        """Put a tree into the module, or a new module into its place."""
        restored = self.backend.restore(self.value, state, device)
        if isinstance(self.module, Attribute):
            setattr(self.module.owner, self.module.name, restored)


def registered(modules: Mapping[str, Module], named: Backend | None) -> list[RegisteredModule]:
    """Return each module with its backend.

    Args:
        modules: module by name.
        named: the backend that the configuration names; None infers one for each.

    Raises:
        UnsupportedModule: if no backend knows a module.
    """
    values = {name: module.value if isinstance(module, Attribute) else module for name, module in modules.items()}
    known = {name: named or _own_backend(value) for name, value in values.items()}
    others = [backend for backend in known.values() if backend is not None]
    return [
        RegisteredModule(name, module, known[name] or backend_of(values[name], named, others))
        for name, module in modules.items()
    ]


@final
class ModuleTable:
    """What checkpoints hold: modules by name, in a table that its owner may change at any time.

    Args:
        modules: the table.
        backend: the backend that the configuration names, or "auto".

    Raises:
        UnknownPlugin: if nobody provides the backend.
        MissingDependency: if its framework is not installed.
    """

    def __init__(self, modules: dict[str, Module], backend: str = "auto") -> None:
        self._modules, self._named = modules, configured(backend)

    def __len__(self) -> int:
        return len(self._modules)

    def look_up(self) -> list[RegisteredModule]:
        """Return the modules of now, each with its backend.

        Raises:
            UnsupportedModule: if no backend can capture one of them.
        """
        return registered(self._modules, self._named)

    def memories(self) -> list[Memory]:
        """Return the memories of now."""
        values = (module.value if isinstance(module, Attribute) else module for module in self._modules.values())
        return [value for value in values if isinstance(value, Memory)]

    def add(self, modules: Mapping[str, Module]) -> None:
        """Add modules, all or none.

        Raises:
            UnsupportedModule: if no backend can capture one of them, or one is replaced as training goes on and was
                not given as an attribute.
        """
        known = registered({**self._modules, **modules}, self._named)
        check_places(known)
        for module in known:
            if module.name in modules:
                module.capture()
        self._modules.update(modules)


def _own_backend(value: Any) -> Backend | None:
    return backend_named(value.backend) if isinstance(value, Memory) else recognize(value)


def check_places(modules: Sequence[RegisteredModule]) -> None:
    """Check that each module has a place that a restored one can go to; see `RegisteredModule.check_place`."""
    for module in modules:
        module.check_place()


def copy_all(modules: Sequence[RegisteredModule]) -> dict[str, Tree]:
    """Return an independent host copy of each module's tree, by name."""
    return {module.name: module.copy() for module in modules}


def metadata(modules: Sequence[RegisteredModule], **more: Any) -> CheckpointMetadata:
    """Return what is stored beside modules: versions, backend, time, and `more`."""
    return CheckpointMetadata(
        format_version=FORMAT_VERSION,
        keepfast=__version__,
        backend=next((module.backend.name for module in modules), None),
        modules=tuple(module.name for module in modules),
        time=time.time(),
        **more,
    )
