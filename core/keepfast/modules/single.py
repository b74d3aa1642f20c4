"""One module, saved to a file and loaded from one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keepfast._system.arguments.guarding import guarded
from keepfast.errors import LoadMismatch
from keepfast.interfaces.checkpoint_store import SINGLE, Checkpoint
from keepfast.interfaces.loading.report import LoadReport
from keepfast.interfaces.sharding.format import save_together
from keepfast.memories.fitting import Fit
from keepfast.modules.options import LoadOptions
from keepfast.modules.parts import Module
from keepfast.modules.reading import checkpoint_at, part_of
from keepfast.modules.registered import metadata, registered, sharded_backend
from keepfast.modules.restoring import restore_all
from keepfast.plugins.backends import configured
from keepfast.plugins.formats import format_of
from keepfast.plugins.locations import located, writable
from keepfast.tree import Tree, flatten


@guarded
def save(module: Module, path: str | Path) -> Path:
    """Save one module to a file, durable when this returns; the extension chooses the format.

    Args:
        module: a network, optimizer, train state, pytree, tensor or memory of any supported framework. One that is
            spread over processes is saved by all of them, at the same point of their programs.
        path: where to; an existing file is replaced only once the new one is complete.

    Returns:
        The path.

    Raises:
        UnsupportedModule: if no backend can capture the module.
        ConfigError: if the extension is of no known format.
        MissingDependency: if its format needs a package that is not installed; says what to run.
        WriteFailed: if the operating system refused; what was there before is untouched.
    """
    path = writable(path)
    store = format_of("checkpoint format", path)
    modules = registered({SINGLE: module}, configured("auto"))
    state = modules[0].view()
    flatten(state)  # two entries of one path could be stored, but neither told apart nor restored
    content = Checkpoint(state, metadata(modules, module=SINGLE).as_mapping())
    if (spread := sharded_backend(modules)) is None:
        store.save(content, path)
    else:
        save_together(store, content, path, spread.peers())
    return path


@guarded
def load(
    module: Module,
    path: str | Path,
    device: Any = None,
    *,
    modules: Sequence[str] | None = None,
    strict: bool = True,
    cast: bool = False,
    rename: Mapping[str, str] | None = None,
    fit: Fit = "error",
) -> LoadReport:
    """Load one module from a file into a module of the same structure.

    Args:
        module: what to load into; changed in place, or, for a `keepfast.attribute`, replaced at its owner.
        path: a file that `save` wrote, one of an experiment's own, or one that another tool wrote in the same format;
            or a run's directory, of which it is the best checkpoint, or else the latest.
        device: where restored arrays are placed; None keeps each where the module has it.
        modules: the name of the module to take out of a file that holds several, in a list, or the path of a part of
            one: ``["agent.actor"]``.
        strict: whether any difference is an error; else what fits is loaded.
        cast: whether another dtype is converted.
        rename: file path -> own path; a path also stands for all below it. ``{"agent.actor": ""}`` loads that part of
            the file and nothing else, ``{"": "net"}`` the file into what is below ``net``.
        fit: what to do with a memory of another size or number of environments: ``"error"``; keep the ``"newest"``
            samples that fit, or the ``"oldest"``.

    Returns:
        What was loaded and what was not.

    Raises:
        LoadMismatch: if anything differs (when strict) or nothing matches; lists everything, and nothing was loaded.
        CorruptCheckpoint: if the file is damaged.
        NotFound: if there is no such file.
    """
    return load_with(module, path, LoadOptions.of(modules, strict, cast, rename, device, fit))


def read_single(path: str | Path, modules: Sequence[str] | None = None) -> Checkpoint:
    """Return what a file has for its one module, or for the one that is asked for; its state is that module's.

    Raises:
        LoadMismatch: if it holds several and none of them is named.
        CorruptCheckpoint: if the file is damaged.
        NotFound: if there is no such file.
    """
    return _read_single(path, modules if modules is None else tuple(modules))[0]


def _read_single(path: str | Path, modules: tuple[str, ...] | None) -> tuple[Checkpoint, Path]:
    checkpoint, file = checkpoint_at(located(path, metrics=False), LoadOptions(modules).wanted())
    return _single(checkpoint, file, modules), file


def load_with(module: Module, path: str | Path, options: LoadOptions) -> LoadReport:
    """Load one module from a file, as `load` does."""
    options = _with_part(options)
    single, file = _read_single(path, options.modules)
    modules = registered({single.about.module or SINGLE: module}, configured("auto"))
    return restore_all(modules, single, file, replace(options, modules=None), spent=True)


def _with_part(options: LoadOptions) -> LoadOptions:
    """Return options in which a part that is renamed to the module itself is the one that is asked for."""
    parts = [old for old, new in options.rename.items() if new == "" and old != ""]
    if options.modules is not None or not parts:
        return options
    rename = {old: new for old, new in options.rename.items() if old not in parts}
    return replace(options, modules=tuple(parts), rename=rename)


def _single(checkpoint: Checkpoint, path: Path, asked: Sequence[str] | None) -> Checkpoint:
    """Return a checkpoint of one module: the file's only one, or the one, or the part of one, that was asked for."""
    about = checkpoint.about
    alone = about.module is not None or about.modules is None
    if alone and (asked is None or tuple(asked) == (about.module,)):
        return Checkpoint(checkpoint.state, replace(about, module=about.module or SINGLE).as_mapping())
    if asked is not None and len(asked) == 1:
        state = _part(checkpoint, asked[0], alone=alone)
        if state is not None:
            return Checkpoint(state, replace(about, module=asked[0]).as_mapping())
    known = list(checkpoint.modules)
    raise LoadMismatch(
        f"`{path}` holds the modules {', '.join(known) or '(none)'}"
        + (f", and nothing at {', '.join(asked)}" if asked else "")
        + f'; say which one to load, or which part of one, `modules=["{known[0] if known else "policy"}"]` for '
        "example, or load it through the agent"
    )


def _part(checkpoint: Checkpoint, path: str, *, alone: bool) -> Tree | None:
    """Return what a file has at a path, which begins with the name of a module, or is within the file's only one."""
    name = checkpoint.about.module
    if alone:
        inner = path.removeprefix(f"{name}.") if name is not None else path
        found = part_of(checkpoint.state, inner)
        return found if found is not None else part_of(checkpoint.state, path)
    return part_of(checkpoint.modules, path)
