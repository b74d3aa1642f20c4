"""Restores modules from a checkpoint: everything that fits, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keepfast._system.memory.giving import giving
from keepfast._system.warnings import warn
from keepfast.errors import LoadMismatch
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.interfaces.loading.conversion import Converted
from keepfast.interfaces.loading.report import Entry, LoadReport, require, with_refusals
from keepfast.modules.comparing.matching import missing_module
from keepfast.modules.comparing.tied import overwritten
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.modules.registered import RegisteredModule, as_stored, match_parts
from keepfast.modules.undoing import Undo, foreign_told, naming
from keepfast.plugins.backends import places
from keepfast.tree import Tree, values


def restore_all(
    modules: Sequence[RegisteredModule],
    checkpoint: Checkpoint,
    path: Path,
    options: LoadOptions,
    *,
    spent: bool = False,
) -> LoadReport:
    """Restore modules from a checkpoint; either all that fits is loaded, or every module is as it was.

    Args:
        modules: what to restore.
        checkpoint: what was read.
        path: where from.
        options: what counts as a difference.
        spent: whether nobody needs the checkpoint's arrays afterwards, so that modules may keep them.

    Raises:
        LoadMismatch: if nothing matches, or anything differs and the options are strict.
        LoadFailed: if a module or its backend raised an error of its own.
        InvalidValue: if there is no such device as the options name.
    """
    with restored(modules, checkpoint, path, options, spent=spent) as report:
        return report


@contextlib.contextmanager
def restored(
    modules: Sequence[RegisteredModule],
    checkpoint: Checkpoint,
    path: Path,
    options: LoadOptions,
    *,
    spent: bool = False,
) -> Iterator[LoadReport]:
    """Restore modules as `restore_all` does, for what is done in the block: where that raises, they are put back."""
    with foreign_told("the checkpoint", path), Undo() as undo:
        yield _restored(modules, checkpoint, path, options, undo, spent=spent)


def _restored(
    modules: Sequence[RegisteredModule],
    checkpoint: Checkpoint,
    path: Path,
    options: LoadOptions,
    undo: Undo,
    *,
    spent: bool,
) -> LoadReport:
    about = checkpoint.about
    found = options.renamed_modules(checkpoint.modules, about.names or {}, is_foreign=about.keepfast is None)
    modules = [as_stored(module, checkpoint.about.backends or {}) for module in modules]
    entries, loadable = _match_all(_wanted(modules, found, options, path), found, options, path)
    absent = tuple(name for name in found if name not in {module.name for module in modules})
    with naming("the checkpoint", path):
        tied = overwritten(loadable)
    report = LoadReport(path, tuple(entries), checkpoint.about.timestep, absent, tied=tied)
    require(report, strict=options.strict)
    if options.modules is None:
        for name in absent:
            warn(f"Cannot load the {name} module. The agent doesn't have such an instance")
    for name, other in report.tied.items():
        warn(
            f"`{path}` has different values for `{name}` and `{other}`, which are one and the same here; loading those "
            f"of `{other}`"
        )
    device_of = places(options.device, [module.backend for module, _ in loadable])
    with giving(_used(loadable) if spent else ()):
        return _restore_each(loadable, report, options, device_of, undo)


def _used(loadable: Iterable[_Loadable]) -> Iterator[Any]:
    """Yield every leaf that a module gets, as often as it does."""
    for _, state in loadable:
        yield from values(state)
        if isinstance(state, Converted):
            yield from values(state.file.entries)


_Loadable = tuple[RegisteredModule, Tree]


def _match_all(
    modules: Sequence[RegisteredModule], found: Mapping[str, FileModule], options: LoadOptions, path: Path
) -> tuple[list[Entry], list[_Loadable]]:
    """Return what became of each entry, and the modules that can be loaded, each with the tree to restore."""
    entries: list[Entry] = []
    loadable: list[_Loadable] = []
    for module in modules:
        with naming(f"`{module.name}`", path):
            if module.name in found:
                for leaf, matched in match_parts(module, found[module.name], options):
                    entries += matched.entries
                    loadable += [(leaf, matched.state)] if matched.is_loadable else []
            elif not module.holds_samples:  # a memory's interval may be longer than that of the checkpoints
                entries += missing_module(module.name, module.capture())
    return entries, loadable


def _restore_each(
    loadable: Sequence[_Loadable],
    report: LoadReport,
    options: LoadOptions,
    device_of: Mapping[str, Any],
    undo: Undo,
) -> LoadReport:
    """Restore modules and report which refused, of which each is as it was."""
    refusals: list[Entry] = []
    # Open modules check their own contents, so they go first.
    for module, state in sorted(loadable, key=lambda pair: not pair[0].is_open):
        with naming(f"`{module.name}`", report.path):
            try:
                undo.restore(module, state, _device(module, device_of))
            except LoadMismatch as error:
                refusals.append(Entry(module.name, "", "refused", found=str(error)))
    report = with_refusals(report, refusals)
    require(report, strict=options.strict)
    return report


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
