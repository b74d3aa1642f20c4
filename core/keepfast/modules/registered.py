"""Modules: what users register, captured into trees and restored from them."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, final

import numpy as np

from keepfast._version import __version__
from keepfast.codec import dtype_of
from keepfast.errors import (
    InvalidValue,
    KeepfastError,
    LoadMismatch,
    MissingDependency,
    UnsupportedModule,
    as_given,
)
from keepfast.interfaces.backend import Backend
from keepfast.interfaces.checkpoint_store import FORMAT_VERSION, CheckpointMetadata, CheckpointStore
from keepfast.interfaces.loading.conversion import Conversion, FileEntries
from keepfast.interfaces.loading.report import Entry
from keepfast.interfaces.sharding.format import ShardedFormat
from keepfast.memories.fitting import fitted_state
from keepfast.memories.memory import Memory
from keepfast.memories.tensors.additions import only_read
from keepfast.modules.comparing.adopting import adopted, are_alike, are_resized, rebuilt, resizable
from keepfast.modules.comparing.matching import Match, match, match_open, missing_module, reject
from keepfast.modules.comparing.older_tuples import with_today_s_tuples
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.modules.parts import CONTAINERS, Module, Place, advice, is_variable, keeps_itself, parts_of
from keepfast.plain.remembering import Remembered
from keepfast.plain.state import find_kind
from keepfast.plugins.backends import PLAIN, backend_named, backend_of, in_use, recognize
from keepfast.tree import Tree, describe, dtype_name, flatten, grown, is_array, leaves, map_leaves, nodes_of, values

ENVIRONMENTS = frozenset({"env", "envs", "environment", "environments", "env_state", "env_states", "envs_state"})
"""What environments, or states of them, are registered as."""


@final
@dataclass(frozen=True)
class RegisteredModule:
    """A module under its name, with the backend that can handle it.

    Attributes:
        name: what it is called in checkpoints; of a part, its path.
        module: the module, or the place that holds it.
        backend: what can handle it; of a module made of parts, that of the first part of a framework.
        parts: what it is made of, by key; nothing for a module by itself.
        assemble: makes a tree of the trees of its parts.
        maker: what makes arrays of a file where the module has none that tell of which framework they are to be.
        beside: all modules by themselves that are registered with it, and it.
    """

    name: str
    module: Module
    backend: Backend
    parts: Mapping[str | int, RegisteredModule] = field(default_factory=dict)
    assemble: Callable[[list[Tree]], Tree] | None = None
    maker: Backend | None = None
    beside: list[RegisteredModule] = field(default_factory=list, compare=False, repr=False)

    @property
    def value(self) -> Any:
        """Return the module itself, looked up where it is replaced as training goes on."""
        return value_of(self.module)

    @property
    def is_memory(self) -> bool:
        """Say whether it is a memory of Keepfast."""
        return isinstance(self.value, Memory)

    @property
    def holds_samples(self) -> bool:
        """Say whether it is a memory, or keeps one of another library, which is as large."""
        return self.is_memory or bool(getattr(type(self.value), "holds_samples", False))

    @property
    def is_environment(self) -> bool:
        """Say whether it is an environment, which can be stepped and reset, or is called so, as its state may be."""
        stepped = all(callable(getattr(self.value, call, None)) for call in ("step", "reset"))
        return (stepped and self.assemble is None) or self.name in ENVIRONMENTS  # not where parts of it are its state

    @property
    def is_open(self) -> bool:
        """Say whether it decides by itself what it takes from a file; one that is made of parts leaves it to them."""
        return self.assemble is None and self.backend.is_open(self.value)

    @property
    def is_varying(self) -> bool:
        """Say whether it may hold nothing at one time and arrays of a framework at another."""
        is_replaced = isinstance(self.module, Place) and self.backend.name != PLAIN
        is_state = type(self.value) in CONTAINERS or is_array(self.value)
        return isinstance(self.value, deque) or (is_replaced and is_state)

    @property
    def tells_nothing(self) -> bool:
        """Say whether no array in it tells of which framework it is to be."""
        if isinstance(self.value, deque):
            return not self.value
        is_place = self.assemble is None and isinstance(self.module, Place) and self.backend.name == PLAIN
        return is_place and not any(is_array(leaf) for _, leaf in leaves(self.value))

    def leaves(self) -> Iterator[RegisteredModule]:
        """Yield the modules that it is made of, down to those that are one by themselves."""
        if self.assemble is None:
            yield self
        for part in self.parts.values():
            yield from part.leaves()

    def check_place(self) -> None:
        """Check that a restored module has a place to go.

        Raises:
            UnsupportedModule: if the module, or a part, is replaced by a restore and nobody says where the new one
                goes.
        """
        for leaf in self.leaves():
            if not isinstance(leaf.module, Place) and _told(leaf.name, leaf.backend.replaces, value := leaf.value):
                raise UnsupportedModule(
                    f"`{leaf.name}` is a {type(value).__qualname__}, which is replaced, not changed; register it as "
                    f'keepfast.attribute(owner, "{leaf.name}"), so that its owner gets the restored one'
                )

    def capture(self) -> Tree:
        """Return the module's present tree, its arrays still shared with it."""
        if self.assemble is not None:
            return self.assemble([part.capture() for part in self.parts.values()])
        value = self.value
        with only_read(value) if isinstance(value, Memory) else contextlib.nullcontext():
            return _told(self.name, self.backend.capture, value)

    def copy(self) -> Tree:
        """Return an independent copy of the module's present tree on the host."""
        if self.assemble is not None:
            return self.assemble([part.copy() for part in self.parts.values()])
        return self.backend.host_copy(self.capture())

    def view(self) -> Tree:
        """Return the same for whoever is done with it before the module changes; see `Backend.host_view`."""
        if self.assemble is not None:
            return self.assemble([part.view() for part in self.parts.values()])
        return self.backend.host_view(self.capture())

    def match(self, found: FileModule, options: LoadOptions) -> Match:
        """Compare the module, which is not made of parts, with a file's.

        Raises:
            UnsupportedModule: if the module is replaced by a restore and nobody says where the new one goes.
        """
        self.check_place()
        value, own = self.value, self.capture()
        found = replace(found, state=with_today_s_tuples(found.state, own))
        if self.is_memory:
            try:
                found = replace(found, state=fitted_state(found.state, value.memory_size, value.num_envs, options.fit))
            except LoadMismatch as error:
                return Match((Entry(self.name, "", "refused", found=str(error)),), None, is_loadable=False)
        if self.is_open:
            state, unlike = self.backend.aligned(value, found.state, self.names(), found.names.get(self.name))
            mismatches = [*unlike, *self.backend.mismatches(value, state)]
            return match_open(self.name, own, state, mismatches, cast=options.cast)
        is_same = are_alike(own, adopted(value, own, found.state)) if isinstance(self.module, Place) else True
        own = self.fitted(own, found.state)
        try:
            matched = match(
                *(self.name, own, found, options),
                free=isinstance(self.module, Place) and is_variable(value),
                resizable=self.resizable(own),
                wholes=self.backend.wholes(value),
                convert=self._converted if self.backend.is_part(value) else None,
            )
        except LoadMismatch as error:
            return Match((Entry(self.name, "", "refused", found=str(error)),), None, is_loadable=False)
        return reject(matched, own, self.backend.mismatches(value, matched.state) if is_same else ())

    def _converted(self, file: FileEntries) -> Conversion | None:
        """Return what the module makes of a file before it takes it, itself unchanged; None where it is the file."""
        value = self.value
        if not self.backend.converts(value, file.versions):
            return None
        before = Remembered(value, self.backend, self.capture())
        try:
            return self.backend.converted(value, file)
        finally:
            try:
                before.put_back()
            except BaseException:  # an interrupt, say: half of it would be half a load
                before.put_back()
                raise

    def names(self) -> Tree:
        """Return what the modules beside an open module call that which it calls by number; see `Backend.names`."""
        return self.backend.names(self.value, {other.name: other.value for other in self.beside})

    def fitted(self, own: Tree, found: Tree, *, was_plain: bool = False) -> Tree:
        """Return the module's own tree with the structure of a file's, wherever the file decides it; see `adopted`."""
        is_place = isinstance(self.module, Place)
        return grown(adopted(self.value, own, found, was_plain=was_plain) if is_place else own, found)

    def resizable(self, own: Tree) -> Container[str]:
        """Return the paths of the arrays that may be of another shape in a file: those that its owner replaces."""
        is_resized = isinstance(self.module, Place) and self.module.is_resized
        return resizable(self.value, own, self.backend) if is_resized else ()

    def restore(self, state: Tree, device: Any) -> None:
        """Put a tree into the module, or a new module into its place."""
        if isinstance(self.module, Place) and not self.is_open and _is_another(self.capture(), state):
            restored = rebuilt(self.value, state, self.maker or self.backend, device)
        else:
            restored = self.backend.restore(self.value, state, device)
        if isinstance(self.module, Place):
            self.module.put(restored)


def _is_another(own: Tree, state: Tree) -> bool:
    """Say whether a tree has other entries than a module's own, or arrays of another shape."""
    return not are_alike(own, state) or are_resized(own, state)


def registered(modules: Mapping[Any, Module], named: Backend | None) -> list[RegisteredModule]:
    """Return each module with its backend; the name of one that is an integer becomes text.

    Args:
        modules: module by name.
        named: the backend that the configuration names; None infers one for each.

    Raises:
        UnsupportedModule: if no backend knows a module, or a name is none.
    """
    unfolded = [
        _followed(name, partial(_Unfolded.of, name, module, named)) for name, module in _with_names(modules).items()
    ]
    known = [backend for each in unfolded for backend in each.backends()]
    companions = [backend for backend in known if backend.name != PLAIN]
    found = [_followed(each.name, partial(each.registered, named, companions)) for each in unfolded]
    alone = [leaf for module in found for leaf in module.leaves()]
    for leaf in alone:
        leaf.beside.extend(alone)
    return found


def _with_names(modules: Mapping[Any, Module]) -> dict[str, Module]:
    """Return modules by their names as text."""
    found: dict[str, Module] = {}
    for key, module in modules.items():
        if not isinstance(key, str | int | np.integer) or isinstance(key, bool) or str(key) == "":
            raise UnsupportedModule(
                f"a module is registered as {as_given(key)} ({type(key).__qualname__}); allowed: names, and integers"
            )
        if str(key) in found:
            raise UnsupportedModule(f"two modules are registered as `{key}`, once as text and once as a number")
        found[str(key)] = module
    return found


@final
@dataclass(frozen=True)
class _Unfolded:
    """A module with the backend that knows it, if one does, and what it is made of, if it is."""

    name: str
    module: Module
    backend: Backend | None
    parts: Mapping[str | int, _Unfolded]
    assemble: Callable[[list[Tree]], Tree] | None

    @classmethod
    def of(cls, name: str, module: Module, named: Backend | None) -> _Unfolded:
        made = parts_of(module)
        if made is None:
            return cls(name, module, _own_backend(value_of(module), named), {}, None)
        parts = {key: cls.of(f"{name}.{key}", part, named) for key, part in made[1].items()}
        return cls(name, module, None, parts, made[0])

    def backends(self) -> Iterator[Backend]:
        """Yield the backends that know it and its parts."""
        if self.backend is not None:
            yield self.backend
        for part in self.parts.values():
            yield from part.backends()

    def registered(self, named: Backend | None, companions: Sequence[Backend]) -> RegisteredModule:
        """Return it with a backend also where only those beside it tell."""
        if self.assemble is None:
            backend = self.backend or _fallback(self.name, value_of(self.module), named, companions)
            return RegisteredModule(self.name, self.module, backend)
        parts = {key: part.registered(named, companions) for key, part in self.parts.items()}
        return RegisteredModule(self.name, self.module, main_backend(parts.values()), parts, self.assemble)


def value_of(module: Module) -> Any:
    """Return a module itself, where it is one, or what is now at the place that holds it."""
    return module.value if isinstance(module, Place) else module


def _own_backend(value: Any, named: Backend | None) -> Backend | None:
    """Return the backend that is named, or that knows a module which is not made of others, or None."""
    if isinstance(value, Memory):
        return backend_named(value.backend)
    plain = backend_named(PLAIN)
    if plain.recognizes(value) and not (named is not None and named.recognizes(value)):
        return plain
    return named or recognize(value)


def _fallback(name: str, value: Any, named: Backend | None, companions: Sequence[Backend]) -> Backend:
    """Return the backend for a module that nobody knows: that of those beside it, or else the plain one.

    Raises:
        UnsupportedModule: if nobody can capture it.
    """
    if not companions and keeps_itself(type(value)):
        return backend_named(PLAIN)
    try:
        return backend_of(value, named=named, others=companions)
    except UnsupportedModule:
        plain = backend_named(PLAIN)
        if find_kind(value) is not None:
            _told(name, plain.capture, value)  # the part of it that nobody knows tells more
            return plain
        return _told(name, partial(backend_of, named=named, others=companions), value)


_Answer = TypeVar("_Answer")


def _told(name: str, ask: Callable[[Any], _Answer], value: Any) -> _Answer:
    """Return the answer to a question about a module; where it is that nobody can capture it, name it, and what to do.

    Raises:
        UnsupportedModule: if that is the answer.
    """
    try:
        return ask(value)
    except RecursionError:
        raise _endless(name) from None
    except UnsupportedModule as error:
        raise UnsupportedModule(f"the module `{name}`: {error}{_advice(value)}") from None
    except InvalidValue as error:
        raise UnsupportedModule(f"the module `{name}`: {error}") from None


def _followed(name: str, follow: Callable[[], _Answer]) -> _Answer:
    """Return what following a module to its parts gives, or name the one that contains itself."""
    try:
        return follow()
    except RecursionError:
        raise _endless(name) from None


def _endless(name: str) -> UnsupportedModule:
    return UnsupportedModule(f"the module `{name}` contains itself, or is nested deeper than can be followed")


def _advice(value: Any) -> str:
    """Return what to do with an object that nobody can capture; nothing for one that says itself what its state is."""
    chosen = hasattr(value, "__dict__") and not isinstance(value, type) and not keeps_itself(type(value))
    return f". {advice(value)}" if chosen else ""


def main_backend(modules: Iterable[RegisteredModule]) -> Backend:
    """Return the backend of the first module that has one of a framework, or the plain one."""
    backends = [module.backend for module in modules]
    return next((backend for backend in backends if backend.name != PLAIN), backends[0])


def sharded_backend(modules: Iterable[RegisteredModule]) -> Backend | None:
    """Return the backend of the first array that is spread over processes, or None where none is."""
    for module in (leaf for each in modules for leaf in each.leaves()):
        if module.backend.sharded_format is not None and module.backend.rank() is not None:
            with contextlib.suppress(KeepfastError):  # told where it is registered, or stored
                if any(map(module.backend.is_sharded, values(module.capture()))):
                    return module.backend
    return None


def format_name(modules: Sequence[RegisteredModule], configured: str) -> str:
    """Return the name of the format of checkpoints: as configured, or as the backend of the first module has it."""
    if configured != "auto":
        return configured
    spread = sharded_backend(modules)
    return main_backend(modules).checkpoint_format if spread is None else spread.sharded_format or configured


def without_memories(modules: Iterable[RegisteredModule]) -> list[RegisteredModule]:
    """Return those modules that hold no samples."""
    return [module for module in modules if not module.holds_samples]


def check_kept(module: RegisteredModule, store: CheckpointStore) -> None:
    """Check that a format can hold all that a module has now, by its structure and dtypes alone.

    Raises:
        UnsupportedModule: if it cannot, or no backend can capture it; names it.
        UsageError: if it has no values yet.
    """
    if not isinstance(store, ShardedFormat) and (spread := sharded_backend([module])) is not None:
        raise UnsupportedModule(
            f"the module `{module.name}` is spread over processes, and a file of the format `{store.extension}` is "
            f'written by one; allowed for `checkpoint_format`: "auto", "{spread.sharded_format}"'
        )
    try:
        outline = map_leaves(_emptied, module.capture())
        flatten(outline)  # it could be stored, but not be restored
        store.check({module.name: outline})
    except InvalidValue as error:
        raise UnsupportedModule(f"the module `{module.name}`: {error}") from None


def _emptied(_path: str, leaf: Any) -> Any:
    """Return an empty array in the place of one, of its dtype; of one that NumPy has no such dtype of, None."""
    if not is_array(leaf):
        return leaf
    try:
        return np.empty(0, leaf.dtype if isinstance(leaf.dtype, np.dtype) else dtype_of(dtype_name(leaf)))
    except (TypeError, MissingDependency):
        return None


def check_places(modules: Sequence[RegisteredModule]) -> None:
    """Check that each module has a place that a restored one can go to; see `RegisteredModule.check_place`."""
    for module in modules:
        module.check_place()


def as_stored(module: RegisteredModule, backends: Mapping[str, str]) -> RegisteredModule:
    """Return a module with the backend that a file names for it, where nothing in it tells whose it is."""
    parts = {key: as_stored(part, backends) for key, part in module.parts.items()}
    name = backends.get(module.name, PLAIN)
    if name != PLAIN and module.tells_nothing:
        backend = in_use(name) or module.backend
        return replace(module, backend=backend if isinstance(module.value, deque) else module.backend, maker=backend)
    return replace(module, parts=parts)


def match_parts(
    module: RegisteredModule, found: FileModule, options: LoadOptions
) -> Iterator[tuple[RegisteredModule, Match]]:
    """Compare a module with a file's, and yield the outcome for each module that it is made of."""
    if module.assemble is None:
        yield module, module.match(found, options)
        return
    nodes = {found.renamed(path): (path, node) for path, node in nodes_of(found.state)}
    taken: list[str] = []
    for leaf in module.leaves():
        own = leaf.name.removeprefix(f"{module.name}.")
        if own in nodes:
            source, node = nodes[own]
            taken.append(source)
            yield leaf, leaf.match(replace(found, state=node, rename=found.rows_below(source, own)), options)
        else:
            yield leaf, Match(tuple(missing_module(leaf.name, leaf.capture())), None, is_loadable=False)
    extra = {
        path: leaf for path, leaf in leaves(found.state) if not any(f"{path}.".startswith(f"{at}.") for at in taken)
    }
    entries = tuple(Entry(module.name, path, "extra", found=describe(leaf)) for path, leaf in extra.items())
    yield module, Match(entries, None, is_loadable=False)


def copy_all(modules: Sequence[RegisteredModule]) -> dict[str, Tree]:
    """Return an independent host copy of each module's tree, by name."""
    return {module.name: module.copy() for module in modules}


def view_all(modules: Sequence[RegisteredModule]) -> dict[str, Tree]:
    """Return the same for whoever is done with it before a module changes; see `Backend.host_view`."""
    return {module.name: module.view() for module in modules}


def metadata(modules: Sequence[RegisteredModule], **more: Any) -> CheckpointMetadata:
    """Return what is stored beside modules: versions, backend, time, and `more`."""
    alone = [leaf for module in modules for leaf in module.leaves()]
    return CheckpointMetadata(
        format_version=FORMAT_VERSION,
        keepfast=__version__,
        backend=main_backend(modules).name if modules else None,
        backends={leaf.name: leaf.backend.name for leaf in alone if leaf.is_varying} or None,
        modules=tuple(module.name for module in modules),
        names={leaf.name: names for leaf in alone if leaf.is_open and (names := leaf.names()) is not None} or None,
        time=time.time(),
        **more,
    )
