"""Finds plugins and hands out what they provide, by name.

Discovery reads the entry points of the group ``keepfast``; the built-in backends, writers and formats come through the
same door as anybody else's. It happens once, at the first question, and never in a training loop.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import pluggy

from keepfast.errors import BrokenPlugin, PluginConflict, UnknownPlugin, as_given, did_you_mean
from keepfast.plugins import hookspecs
from keepfast.plugins.lazy import install_hint, lazy

_GROUP = "keepfast"

_DISABLE = "KEEPFAST_DISABLE_PLUGINS"
"""The environment variable that names plugins to pass over, by entry point or distribution, with commas between."""

_STRICT = "KEEPFAST_STRICT_PLUGINS"
"""The environment variable that makes a plugin which fails to load an error; unset, empty or 0 does not."""

HOOKS = {
    "backend": "keepfast_backends",
    "writer": "keepfast_writers",
    "checkpoint format": "keepfast_checkpoint_formats",
    "memory format": "keepfast_memory_formats",
    "checkpoint reader": "keepfast_migrations",
    "adapter": "keepfast_adapters",
    "agent": "keepfast_agents",
    "location": "keepfast_locations",
}
"""The kinds of things plugins provide, each with the hook that lists it. A new kind is a row here."""


def _unknown_hooks(plugin: object) -> list[str]:
    """Return the names of a plugin's hooks that this version of Keepfast does not have."""
    marked = [name for name in dir(plugin) if hasattr(getattr(plugin, name, None), f"{hookspecs.PROJECT}_impl")]
    return [name for name in marked if name not in HOOKS.values()]


@final
@dataclass(frozen=True)
class Provided:
    """One thing that a plugin provides.

    Attributes:
        kind: a key of `HOOKS`.
        name: what users type to get it.
        factory: makes it.
        distribution: the installed distribution that brought it, or the plugin's name where it was registered by hand.
        version: that distribution's version, or "".
    """

    kind: str
    name: str
    factory: Callable[..., Any]
    distribution: str
    version: str

    @property
    def status(self) -> str:
        """Return ``ready``, or what to install first."""
        missing = self.factory.missing() if isinstance(self.factory, lazy) else ()
        if not missing:
            return "ready"
        extra = self.factory.extra if isinstance(self.factory, lazy) else None
        return f"needs {install_hint(missing, extra)}"


@final
@dataclass(frozen=True)
class Broken:
    """A plugin that failed to import or to register.

    Attributes:
        entry_point: the name of its entry point.
        distribution: the installed distribution it belongs to.
        version: that distribution's version, or "".
        cause: what it raised.
    """

    entry_point: str
    distribution: str
    version: str
    cause: Exception

    def __str__(self) -> str:
        reason = f"{type(self.cause).__name__}: {self.cause}"
        return f"plugin `{self.entry_point}` of {self.distribution} {self.version} failed to load: {reason}"


@final
@dataclass
class PluginRegistry:
    """Knows every plugin, what each provides, and which are broken."""

    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(hookspecs.PROJECT))
    broken: list[Broken] = field(default_factory=list)
    _origins: dict[str, tuple[str, str]] = field(default_factory=dict)
    _asked: dict[str, tuple[list[Any], list[Provided]]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)

    def discover(self) -> None:
        """Register the plugin of every installed distribution; one that fails is recorded and skipped.

        Those that ``KEEPFAST_DISABLE_PLUGINS`` names, by entry point or distribution, are passed over. Where
        ``KEEPFAST_STRICT_PLUGINS`` is set, one that fails is an error.

        Raises:
            BrokenPlugin: if a plugin fails and ``KEEPFAST_STRICT_PLUGINS`` is set; carries the cause.
        """
        disabled = {_normal(name.strip()) for name in os.environ.get(_DISABLE, "").split(",")}
        for distribution in importlib.metadata.distributions():
            for entry_point in distribution.entry_points:
                name, version = _identity(distribution)
                if entry_point.group == _GROUP and disabled.isdisjoint({_normal(entry_point.name), _normal(name)}):
                    self._load(entry_point, name, version)
        if self.broken and os.environ.get(_STRICT, "") not in ("", "0"):
            raise BrokenPlugin(str(self.broken[0])) from self.broken[0].cause

    def _load(self, entry_point: importlib.metadata.EntryPoint, distribution: str, version: str) -> None:
        name = f"{distribution}:{entry_point.name}"
        if self.manager.has_plugin(name):  # a distribution found twice on sys.path
            return
        try:
            plugin = entry_point.load()
            for hook in _unknown_hooks(plugin):
                # Made for another version of Keepfast, perhaps: what else it provides is of use all the same.
                unknown = pluggy.PluginValidationError(plugin, f"unknown hook {hook!r}")
                self._record(Broken(entry_point.name, distribution, version, unknown))
                delattr(getattr(plugin, hook), f"{hookspecs.PROJECT}_impl")
            self.register(plugin, name, distribution, version)
        except Exception as error:  # noqa: BLE001  (a plugin may raise anything; kept, and raised when asked for)
            self.broken.append(Broken(entry_point.name, distribution, version, error))

    def register(self, plugin: object, name: str, distribution: str = "", version: str = "") -> None:
        """Register a module or object that implements hooks, without an entry point.

        Args:
            plugin: carries functions marked with `keepfast.hookimpl`.
            name: a name for it, unique among plugins.
            distribution: what to show as its origin; the name by default.
            version: its version, if it has one.

        Raises:
            PluginConflict: if the plugin or its name is registered already.
            pluggy.PluginValidationError: if it implements a hook that does not exist, or with other arguments.
        """
        if self.manager.has_plugin(name) or self.manager.is_registered(plugin):
            raise PluginConflict(f"the plugin `{name}` is registered already")
        try:
            self.manager.register(plugin, name)
            self.manager.check_pending()
        except Exception:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            raise
        self._origins[name] = (distribution or name, version)

    def unregister(self, plugin: object) -> None:
        """Take back a plugin that was registered by hand."""
        self.manager.unregister(plugin)

    def provided(self, kind: str) -> list[Provided]:
        """Return all that plugins provide of a kind, sorted by name; a name claimed twice is there twice."""
        implementations = getattr(self.manager.hook, HOOKS[kind]).get_hookimpls()
        known, told = self._asked.get(kind, (None, []))
        if known == implementations:  # each plugin is asked once, for all that a run needs is asked for again and again
            return list(told)
        found: list[Provided] = []
        failed = False
        for implementation in implementations:
            name = implementation.plugin_name
            try:
                table = _checked(implementation.function())
            except Exception as error:  # noqa: BLE001  (as in _load)
                self._record_failure(name, error)
                failed = True
                continue
            found += [Provided(kind, key, factory, *self._origins[name]) for key, factory in table.items()]
        found.sort(key=lambda provided: provided.name)
        if not failed:
            self._asked[kind] = list(implementations), found
        return list(found)

    def _record_failure(self, name: str, error: Exception) -> None:
        self._record(Broken(name.rpartition(":")[2], *self._origins[name], error))

    def _record(self, failed: Broken) -> None:
        if all(str(failed) != str(known) for known in self.broken):
            self.broken.append(failed)

    def names(self, kind: str) -> list[str]:
        """Return the names that can be asked for."""
        return sorted({provided.name for provided in self.provided(kind)})

    def get(self, kind: str, name: str) -> Callable[..., Any]:
        """Return the factory of a name.

        Raises:
            UnknownPlugin: if nobody provides it; lists the known names and the nearest.
            PluginConflict: if two plugins do; names both.
            BrokenPlugin: if the plugin of that name failed to load; carries the cause.
        """
        if not isinstance(name, str):
            raise UnknownPlugin(f"a {kind} is asked for as {as_given(name)}; allowed: its name as text")
        provided = self.provided(kind)
        claims = [candidate for candidate in provided if candidate.name == name]
        if len(claims) > 1:
            owners = " and ".join(f"{claim.distribution} {claim.version}".strip() for claim in claims)
            raise PluginConflict(f"the {kind} `{name}` is claimed by {owners}; uninstall one of them")
        if claims:
            return claims[0].factory
        for broken in self.broken:
            if _normal(name) in (_normal(broken.entry_point), _normal(broken.distribution)):
                raise BrokenPlugin(str(broken)) from broken.cause
        known = did_you_mean(name, {candidate.name for candidate in provided})
        failed = "".join(f"\n{broken}" for broken in self.broken)
        raise UnknownPlugin(f"unknown {kind} `{name}`{known}{failed}")

    def make(self, provided: Provided) -> Any | None:
        """Make one of what is provided; where its packages are missing or it fails, which is recorded, return None."""
        if provided.status != "ready":
            return None
        try:
            return provided.factory()
        except Exception as error:  # noqa: BLE001  (as in _load)
            self._record(Broken(provided.name, provided.distribution, provided.version, error))
            return None

    def make_ready(self, kind: str) -> list[Any]:
        """Make one of everything of a kind whose packages are installed; one that fails is recorded and left out."""
        made = (self.make(provided) for provided in self.provided(kind))
        return [one for one in made if one is not None]

    def everything(self) -> Iterator[Provided]:
        """Yield all that is provided, kind by kind."""
        for kind in HOOKS:
            yield from self.provided(kind)


def _checked(table: Mapping[Any, Any]) -> dict[str, Callable[..., Any]]:
    checked = dict(table)
    for name, factory in checked.items():
        if not isinstance(name, str) or not callable(factory):
            raise TypeError(f"it lists {name!r} with {factory!r}; allowed: a string with a callable")
    return checked


def _identity(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Return a distribution's name and version, also of one that an interrupted uninstall left without metadata."""
    metadata = distribution.metadata
    known = {key: metadata[key] for key in ("Name", "Version") if key in metadata}
    return known.get("Name", "(unnamed)"), known.get("Version", "")


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


@functools.cache
def registry() -> PluginRegistry:
    """Return the process's registry, filled at the first call."""
    found = PluginRegistry()
    found.discover()
    return found
