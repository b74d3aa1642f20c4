"""The table of what checkpoints hold: modules by name, checked as an agent starts, and as one is put there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, final

from keepfast._system.arguments.checks import table
from keepfast.config import ExperimentConfig
from keepfast.errors import InvalidValue, UnsupportedModule, UsageError, as_given
from keepfast.interfaces.checkpoint_store import CheckpointStore
from keepfast.memories.memory import Memory
from keepfast.modules.parts import Attribute, Attributes, Item, Module
from keepfast.modules.registered import RegisteredModule, check_kept, check_places, format_name, registered, value_of
from keepfast.plugins.backends import check_device, configured, recognize
from keepfast.plugins.discovery import registry


@final
class CheckedModules(dict[str, Module]):
    """Modules by name, of which each that is put there is checked, from the moment on that `check` is given.

    Attributes:
        check: called with the table as it would be, and the names that are new in it; what it raises, nothing changes.
    """

    check: Callable[[Mapping[Any, Module], Iterable[Any]], None] | None = None

    def __setitem__(self, name: str, module: Module) -> None:
        self._check({name: module})
        super().__setitem__(name, module)

    def update(self, *modules: Any, **named: Module) -> None:
        """Put modules there, all or none, given as to the `update` of any dict."""
        more = dict(*modules, **named)
        self._check(more)
        super().update(more)

    def setdefault(self, name: str, default: Module = None, /) -> Module:
        """Return the module of a name, which is put there where there is none."""
        if name not in self:
            self[name] = default
        return self[name]

    def __ior__(self, modules: Any, /) -> Self:  # type: ignore[override,misc]
        self.update(modules)
        return self

    def replace(self, modules: Mapping[str, Module]) -> None:
        """Have other modules, and these alone."""
        kept = dict(modules)
        if self.check is not None:
            self.check(kept, kept)
        self.clear()
        super().update(kept)

    def _check(self, more: Mapping[Any, Module]) -> None:
        if self.check is not None:
            self.check({**self, **more}, more)


@final
class ModuleTable:
    """What checkpoints hold: modules by name, in a table that its owner may change at any time.

    Args:
        modules: the table. Where it has None, there is no such module.
        backend: the backend that the configuration names, or "auto".
        device: where what is restored goes; None leaves each module where it is.
        checkpoint_format: the format that the configuration names, or "auto".

    Raises:
        InvalidValue: if there is no such device.
        UnknownPlugin: if nobody provides the backend.
        MissingDependency: if its framework is not installed.
    """

    def __init__(
        self, modules: dict[str, Module], backend: str = "auto", device: Any = None, checkpoint_format: str = "auto"
    ) -> None:
        if not isinstance(modules, Mapping):
            raise InvalidValue(f"`modules` is {as_given(modules)}; allowed: a table of modules by name")
        table("modules", modules)
        self._modules, self._named, self.device = modules, configured(backend), device
        self._format = checkpoint_format
        check_device(device, modules.values(), self._named)

    @classmethod
    def of(cls, modules: dict[str, Module] | None, config: ExperimentConfig, device: Any) -> ModuleTable:
        """Return a table as an experiment's settings ask for it; None stands for one that is empty."""
        return cls({} if modules is None else modules, config.backend, device, config.checkpoint_format)

    @property
    def names(self) -> list[str]:
        """Return the names of the modules of now."""
        return [str(name) for name in _instances(self._modules)]

    def __len__(self) -> int:
        return len(_instances(self._modules))

    def look_up(self) -> list[RegisteredModule]:
        """Return the modules of now, each with its backend.

        Raises:
            UnsupportedModule: if no backend can capture one of them.
        """
        return registered(_instances(self._modules), self._named)

    def check(self, modules: Mapping[Any, Module] | None = None, names: Iterable[Any] | None = None) -> None:
        """Check that every module can be kept, and put back; one that has no values yet may get them.

        Args:
            modules: another table that is to be in the place of this one; None checks this one.
            names: those that are new in it; all if None.

        Raises:
            UnsupportedModule: if no backend can capture one of them, or a part of it, or the format cannot hold it, or
                it is replaced as training goes on and was not given as an attribute; names it.
        """
        for module, store in self._placed(self._modules if modules is None else modules, names):
            with contextlib.suppress(UsageError):
                check_kept(module, store)

    def _placed(
        self, modules: Mapping[Any, Module], names: Iterable[Any] | None
    ) -> Iterator[tuple[RegisteredModule, CheckpointStore]]:
        """Yield the modules of a table that have these names, or all, with the format that they are stored in."""
        known = registered(_instances(modules), self._named)
        check_places(known)
        wanted = {module.name for module in known} if names is None else set(map(str, names))
        if wanted and known:
            store = self._store_for(known)
            yield from ((module, store) for module in known if module.name in wanted)

    def _store_for(self, modules: Sequence[RegisteredModule]) -> CheckpointStore:
        """Return the format that checkpoints are written in: as configured, or that of the first module's backend."""
        name = format_name(modules, self._format)
        store: CheckpointStore = registry().get("checkpoint format", name)()
        return store

    def memories(self) -> list[Memory]:
        """Return the memories of now."""
        values = map(value_of, self._modules.values())
        return [value for value in values if isinstance(value, Memory)]

    def set_autoreset(self, mode: str | None) -> None:
        """Tell the memories when their environments reset, where it is known."""
        for memory in self.memories() if mode is not None else ():
            memory.autoreset = mode

    def reset_episodes(self, envs: Any, num_envs: int | None) -> None:
        """Tell the memories of as many environments, or all where that is not known, that some were reset."""
        for memory in self.memories():
            if num_envs in (None, memory.num_envs):
                memory.reset_episodes(envs)

    def add(self, modules: Mapping[str, Module]) -> None:
        """Add modules, all or none.

        Raises:
            UnsupportedModule: if no backend can capture one of them, or one is replaced as training goes on and was
                not given as an attribute.
        """
        for module, store in self._placed({**self._modules, **modules}, modules):
            check_kept(module, store)
        self._modules.update(modules)


def _instances(modules: Mapping[Any, Module]) -> dict[Any, Module]:
    """Return modules without those that are None, as ``models.get("value")`` gives where an agent has no such one."""
    return {name: module for name, module in modules.items() if module is not None}


def name_places(owner: object, modules: dict[str, Module]) -> None:
    """Put in the place of each module that is replaced the attribute of its owner that holds it, where there is one.

    ``agent.checkpoint_modules["optimizer"] = agent.optimizer`` then means what the agent has there later, too. Where
    several attributes hold it, the one with the module's name is meant.

    Args:
        owner: the object whose attributes are looked through.
        modules: its modules by name; changed in place.
    """
    for name, module in modules.items():
        if isinstance(module, Attribute | Attributes | Item) or not _is_replaced(module):
            continue
        holding = [each for each, value in vars(owner).items() if value is module]
        if len(holding) == 1 or name in holding:
            modules[name] = Attribute(owner, name if name in holding else holding[0])


def _is_replaced(module: Any) -> bool:
    """Say whether a restore makes another object, of which each is itself; a number or a text is not."""
    if (
        module is None
        or (isinstance(module, tuple) and not module)
        or isinstance(module, bool | int | float | complex | str | bytes)
    ):
        return False
    try:
        backend = recognize(module)
        return backend is not None and backend.replaces(module)
    except (UnsupportedModule, RecursionError):  # told by whoever captures it
        return False
