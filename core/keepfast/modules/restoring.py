"""Restores modules from a checkpoint: everything that fits, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keepfast._system.warnings import warn
from keepfast.errors import LoadMismatch
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.interfaces.report import Entry, LoadReport, require, with_refusals
from keepfast.modules.matching import missing_module
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.modules.registered import RegisteredModule, as_stored, match_parts
from keepfast.plugins.backends import places
from keepfast.tree import Tree


def restore_all(
    modules: Sequence[RegisteredModule], checkpoint: Checkpoint, path: Path, options: LoadOptions
) -> LoadReport:
    """Restore modules from a checkpoint; either all that fits is loaded, or nothing is touched.

    Raises:
        LoadMismatch: if nothing matches, or anything differs and the options are strict.
        InvalidValue: if there is no such device as the options name.
    """
    found = options.renamed_modules(checkpoint.modules, checkpoint.about.names or {})
    modules = [as_stored(module, checkpoint.about.backends or {}) for module in modules]
    entries, loadable = _match_all(_wanted(modules, found, options, path), found, options)
    absent = tuple(name for name in found if name not in {module.name for module in modules})
    report = LoadReport(path, tuple(entries), checkpoint.about.timestep, absent)
    require(report, strict=options.strict)
    if options.modules is None:
        for name in absent:
            warn(f"Cannot load the {name} module. The agent doesn't have such an instance")
    device_of = places(options.device, [module.backend for module, _ in loadable])
    return _restore_or_undo(loadable, report, options, device_of)


_Loadable = tuple[RegisteredModule, Tree]


def _match_all(
    modules: Sequence[RegisteredModule], found: Mapping[str, FileModule], options: LoadOptions
) -> tuple[list[Entry], list[_Loadable]]:
    """Return what became of each entry, and the modules that can be loaded, each with the tree to restore."""
    entries: list[Entry] = []
    loadable: list[_Loadable] = []
    for module in modules:
        if module.name in found:
            for leaf, matched in match_parts(module, found[module.name], options):
                entries += matched.entries
                loadable += [(leaf, matched.state)] if matched.is_loadable else []
        elif not module.is_memory:  # a memory's interval may be longer than that of the checkpoints
            entries += missing_module(module.name, module.capture())
    return entries, loadable


def _restore_or_undo(
    loadable: Sequence[_Loadable], report: LoadReport, options: LoadOptions, device_of: Mapping[str, Any]
) -> LoadReport:
    """Restore modules and report which refused; if that is an error, put back those that went before."""
    with contextlib.ExitStack() as undo:
        # Open modules check their own contents, so they go first, and only they need a way back.
        asked = [_restore_open(module, state, device_of, undo) for module, state in loadable if module.is_open]
        report = with_refusals(report, [refusal for refusal in asked if refusal is not None])
        require(report, strict=options.strict)
        for module, state in loadable:
            if not module.is_open:
                module.restore(state, _device(module, device_of))
        undo.pop_all()
    return report


def _restore_open(
    module: RegisteredModule, state: Tree, device_of: Mapping[str, Any], undo: contextlib.ExitStack
) -> Entry | None:
    """Restore an open module and arrange for its undoing; if it refuses, put it back and return why."""
    try:
        with contextlib.ExitStack() as own:
            own.callback(module.restore, module.copy(), None)
            module.restore(state, _device(module, device_of))
            undo.push(own.pop_all())
    except LoadMismatch as error:
        return Entry(module.name, "", "refused", found=str(error))
    return None


def _device(module: RegisteredModule, device_of: Mapping[str, Any]) -> Any:
    """Return where a module goes; a memory has a device of its own."""
    return None if module.is_memory else device_of.get(module.backend.name)


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
