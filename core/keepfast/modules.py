"""Modules: what users register, captured into trees and restored from them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from keepfast._version import __version__
from keepfast._warnings import warn
from keepfast.backend import Backend
from keepfast.backends import backend_named, backend_of, configured, recognize
from keepfast.checkpoint import FORMAT_VERSION, Checkpoint
from keepfast.checkpoint_formats import read_checkpoint, store_for
from keepfast.errors import LoadMismatch, UnsupportedModule
from keepfast.loading import Entry, FileModule, LoadOptions, LoadReport, require, with_refusals
from keepfast.matching import Match, match, match_open, missing_module, reject
from keepfast.memory_buffer import MemoryBuffer
from keepfast.tree import Tree, flatten

Module = Any
"""A network, optimizer, train state, pytree, tensor, memory, or an `Attribute` that holds one."""


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
        return isinstance(self.value, MemoryBuffer)

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


def _own_backend(value: Any) -> Backend | None:
    return backend_named(value.backend) if isinstance(value, MemoryBuffer) else recognize(value)


def check_places(modules: Sequence[RegisteredModule]) -> None:
    """Check that each module has a place that a restored one can go to; see `RegisteredModule.check_place`."""
    for module in modules:
        module.check_place()


def copy_all(modules: Sequence[RegisteredModule]) -> dict[str, Tree]:
    """Return an independent host copy of each module's tree, by name."""
    return {module.name: module.copy() for module in modules}


def metadata(modules: Sequence[RegisteredModule], **more: Any) -> dict[str, Any]:
    """Return what is stored beside modules: versions, backend, time, and `more`."""
    return {
        "format_version": FORMAT_VERSION,
        "keepfast": __version__,
        "backend": next((module.backend.name for module in modules), None),
        "modules": [module.name for module in modules],
        "time": time.time(),
        **more,
    }


def restore_all(
    modules: Sequence[RegisteredModule], checkpoint: Checkpoint, path: Path, options: LoadOptions
) -> LoadReport:
    """Restore modules from a checkpoint; either all that fits is loaded, or nothing is touched.

    Raises:
        LoadMismatch: if nothing matches, or anything differs and the options are strict.
    """
    found = options.renamed_modules(checkpoint.modules)
    entries, loadable = _match_all(_wanted(modules, found, options, path), found, options)
    absent = tuple(name for name in found if name not in {module.name for module in modules})
    report = LoadReport(path, tuple(entries), checkpoint.metadata.get("timestep"), absent)
    require(report, strict=options.strict)
    if options.modules is None:
        for name in absent:
            warn(f"Cannot load the {name} module. The agent doesn't have such an instance")
    return _restore_or_undo(loadable, report, options)


_Loadable = tuple[RegisteredModule, Tree]


def _match_all(
    modules: Sequence[RegisteredModule], found: Mapping[str, FileModule], options: LoadOptions
) -> tuple[list[Entry], list[_Loadable]]:
    """Return what became of each entry, and the modules that can be loaded, each with the tree to restore."""
    entries: list[Entry] = []
    loadable: list[_Loadable] = []
    for module in modules:
        if module.name in found:
            matched = module.match(found[module.name], options)
            entries += matched.entries
            loadable += [(module, matched.state)] if matched.is_loadable else []
        elif not module.is_memory:  # a memory's interval may be longer than that of the checkpoints
            entries += missing_module(module.name, module.capture())
    return entries, loadable


def _restore_or_undo(loadable: Sequence[_Loadable], report: LoadReport, options: LoadOptions) -> LoadReport:
    """Restore modules and report which refused; if that is an error, put back those that went before."""
    with contextlib.ExitStack() as undo:
        # Open modules check their own contents, so they go first, and only they need a way back.
        asked = [_restore_open(module, state, options, undo) for module, state in loadable if module.is_open]
        report = with_refusals(report, [refusal for refusal in asked if refusal is not None])
        require(report, strict=options.strict)
        for module, state in loadable:
            if not module.is_open:
                module.restore(state, options.device)
        undo.pop_all()
    return report


def _restore_open(
    module: RegisteredModule, state: Tree, options: LoadOptions, undo: contextlib.ExitStack
) -> Entry | None:
    """Restore an open module and arrange for its undoing; if it refuses, put it back and return why."""
    try:
        with contextlib.ExitStack() as own:
            own.callback(module.restore, module.copy(), None)
            module.restore(state, options.device)
            undo.push(own.pop_all())
    except LoadMismatch as error:
        return Entry(module.name, "", "refused", found=str(error))
    return None


def _wanted(
    modules: Sequence[RegisteredModule], found: Iterable[str], options: LoadOptions, path: Path
) -> list[RegisteredModule]:
    names = {module.name for module in modules}
    if options.modules is not None and (unknown := set(options.modules) - names):
        raise LoadMismatch(
            f"asked to load {', '.join(sorted(unknown))}, which the agent does not have; "
            f"it has: {', '.join(sorted(names)) or '(none)'}"
        )
    wanted = [module for module in modules if options.modules is None or module.name in options.modules]
    if not any(module.name in found for module in wanted):
        raise LoadMismatch(
            f"`{path}` holds the modules {', '.join(sorted(found)) or '(none)'}, and none of the ones it was loaded "
            f"into: {', '.join(module.name for module in wanted) or '(none)'}; `rename` maps names"
        )
    return wanted


_SINGLE = "module"
"""The name under which `save` and `load` handle a module that has none."""


def save(module: Module, path: str | Path) -> Path:
    """Save one module to a file, durable when this returns; the extension chooses the format.

    Args:
        module: a network, optimizer, train state, pytree, tensor or memory of any supported framework.
        path: where to; an existing file is replaced only once the new one is complete.

    Returns:
        The path.

    Raises:
        UnsupportedModule: if no backend can capture the module.
        ConfigError: if the extension is of no known format.
        WriteFailed: if the operating system refused; what was there before is untouched.
    """
    path = Path(path)
    store = store_for(path)
    modules = registered({_SINGLE: module}, configured("auto"))
    state = modules[0].copy()
    flatten(state)  # two entries of one path could be stored, but neither told apart nor restored
    store.save(Checkpoint(state, metadata(modules, module=_SINGLE)), path)
    return path


def load(
    module: Module,
    path: str | Path,
    device: Any = None,
    *,
    modules: Sequence[str] | None = None,
    strict: bool = True,
    cast: bool = False,
    rename: Mapping[str, str] | None = None,
) -> LoadReport:
    """Load one module from a file into a module of the same structure.

    Args:
        module: what to load into; changed in place, or, for a `keepfast.attribute`, replaced at its owner.
        path: a file that `save` wrote, one of an experiment's own with ``store_separately``, or one that another tool
            wrote in the same format.
        device: where restored arrays are placed; None keeps each where the module has it.
        modules: the name of the module to take out of a file that holds several, in a list.
        strict: whether any difference is an error; else what fits is loaded.
        cast: whether another dtype is converted.
        rename: file path -> own path; a path also stands for all below it.

    Returns:
        What was loaded and what was not.

    Raises:
        LoadMismatch: if anything differs (when strict) or nothing matches; lists everything, and nothing was loaded.
        CorruptCheckpoint: if the file is damaged.
        NotFound: if there is no such file.
    """
    path = Path(path)
    single = _single(read_checkpoint(path), path, modules)
    options = LoadOptions(strict=strict, cast=cast, rename=rename or {}, device=device)
    return restore_all(registered({single.metadata["module"]: module}, configured("auto")), single, path, options)


def _single(checkpoint: Checkpoint, path: Path, modules: Sequence[str] | None) -> Checkpoint:
    """Return a checkpoint of one module: the file's only one, or the one that was asked for."""
    names = checkpoint.metadata.get("modules")
    if "module" in checkpoint.metadata or (names is None and modules is None):
        return Checkpoint(checkpoint.state, {"module": _SINGLE, **checkpoint.metadata})
    known = list(checkpoint.modules)
    if modules is None or len(modules) != 1 or modules[0] not in known:
        raise LoadMismatch(
            f"`{path}` holds the modules {', '.join(known)}; say which one to load, "
            f'`modules=["{known[0] if known else "policy"}"]` for example, or load it through the agent'
        )
    return Checkpoint(checkpoint.state[modules[0]], {**checkpoint.metadata, "module": modules[0]})
