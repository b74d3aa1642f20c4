"""Checkpoint files into checkpoint files: other formats, other frameworks, parts, and values from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from keepfast._version import __version__
from keepfast.errors import InvalidValue, UsageError, did_you_mean
from keepfast.interfaces.checkpoint_reader import ForeignCheckpoint, Side
from keepfast.interfaces.checkpoint_store import FORMAT_VERSION, Checkpoint, CheckpointMetadata
from keepfast.migration.calls import read_foreign
from keepfast.migration.engine import MigrationOptions, Place, Plan, Source
from keepfast.migration.layers import layers_of, side_of
from keepfast.migration.readers.own import separated
from keepfast.migration.report import MigrationReport
from keepfast.migration.roles import role_of
from keepfast.migration.rules.framework import laid_out
from keepfast.plugins.formats import format_of, read_checkpoint
from keepfast.tree import Tree, flatten

Framework = Literal["torch", "jax"]

_SIDES: dict[str, Side] = {"torch": "torch", "jax": "flax"}
_FRAMEWORKS = {side: framework for framework, side in _SIDES.items()}
_ROLES = {"policy": "policy", "actor": "policy", "value": "critic", "critic": "critic"}


def migrate_file(
    source: str | Path, checkpoint: str | Path, options: MigrationOptions, output: Path | None = None
) -> MigrationReport:
    """Migrate a checkpoint of any library into the networks of a checkpoint of Keepfast.

    Args:
        source: the checkpoint to take values from.
        checkpoint: the one whose networks get them; its optimizers and what a resume needs stay behind.
        options: how; of a dry run nothing is written.
        output: where to write; None replaces the checkpoint.

    Returns:
        What came from where.

    Raises:
        LoadMismatch: if anything is ambiguous, missing or without a place; nothing was written.
        NotFound: if a file is not there.
    """
    read = read_foreign(source)
    found = read_checkpoint(Path(checkpoint))
    networks, _ = separated(dict(found.modules))
    plan = Plan.of(_places(networks, found.about.backend), read, options)
    report = plan.settled(options)
    if not options.dry_run:
        trees = {name: plan.tree(name) for name in networks}
        _write(trees, Path(output or checkpoint), found.about)
    return report


def _places(networks: Mapping[str, Tree], backend: str | None) -> list[Place]:
    usual = _SIDES.get(backend or "")
    return [Place(name, tree, usual if usual == "torch" else None) for name, tree in networks.items()]


def convert_file(
    source: str | Path,
    target: str | Path,
    to: Framework | None = None,
    like: str | Path | None = None,
    modules: Sequence[str] | None = None,
    *,
    replace_file: bool = False,
) -> list[str]:
    """Convert a checkpoint: into the format that the target's name tells, into another framework, into a part.

    Args:
        source: a checkpoint of Keepfast, or of any library that there is a reader for.
        target: the file to write; its extension names the format.
        to: the framework whose layout the networks get; None leaves theirs.
        like: a checkpoint whose networks say the names and layouts of those in the target.
        modules: which of them; of a file that keeps actor and critic in one, ``policy`` and ``value`` are its parts.
        replace_file: whether a file that is there is replaced.

    Returns:
        What there is to tell.

    Raises:
        UsageError: if the target is there and is not to be replaced.
        InvalidValue: if there is no module of a name.
        LoadMismatch: if a network does not fit into those of `like`, or cannot be laid out without it.
    """
    target = Path(target)
    if target.exists() and not replace_file:
        raise UsageError(f"`{target}` is there already; give another name, or replace it (`--force`)")
    format_of("checkpoint format", target)
    read = read_foreign(source)
    if to is None and like is None and modules is None and read.reader == "keepfast":
        checkpoint = read_checkpoint(Path(source))
        format_of("checkpoint format", target).save(checkpoint, target)
        return []
    found = _chosen(read.found, modules)
    if like is not None:
        return _into_like(replace(read, found=found), target, Path(like), modules)
    made, notes = {}, list(found.notes)
    for name, tree in found.modules.items():
        side = found.side or side_of(tree)
        made[name or "module"], told = laid_out(name, tree, side, _SIDES[to] if to else side)
        notes += told
    side = _SIDES[to] if to else found.side or side_of(dict(found.modules))
    _write(made, target, CheckpointMetadata(backend=_FRAMEWORKS[side]))
    return notes


def _into_like(source: Source, target: Path, like: Path, modules: Sequence[str] | None) -> list[str]:
    shape = read_checkpoint(like)
    networks, _ = separated(dict(shape.modules))
    networks = {name: tree for name, tree in networks.items() if modules is None or name in modules} or networks
    plan = Plan.of(_places(networks, shape.about.backend), source, MigrationOptions())
    report = plan.settled(MigrationOptions())
    _write({name: plan.tree(name) for name in networks}, target, shape.about)
    return [*report.notes, *report.warnings]


def _chosen(found: ForeignCheckpoint, modules: Sequence[str] | None) -> ForeignCheckpoint:
    """Return a checkpoint of some modules alone; of a module that holds several networks, of those of a role."""
    if modules is None:
        return found
    chosen: dict[str, Tree] = {}
    for name in modules:
        if name in found.modules:
            chosen[name] = found.modules[name]
        elif name in _ROLES and (part := _of_role(found, _ROLES[name])):
            chosen[name] = part
        else:
            raise InvalidValue(f"the file has no module `{name}`{did_you_mean(name, filter(None, found.modules))}")
    return replace(found, modules=chosen)


def _of_role(found: ForeignCheckpoint, role: str) -> Tree:
    """Return the layers of one role, and those that serve all, as a flat tree."""
    kept: dict[str, object] = {}
    for module, tree in found.modules.items():
        flat = flatten(tree)
        for layer in layers_of(module, tree, found.side or side_of(tree)):
            told = role_of(layer)
            is_shared = bool(found.shared) and layer.name.startswith(found.shared)
            if not told.target and (is_shared or told.base in (role, None)):
                kept |= {path: flat[path] for path in layer.paths.values()}
    return kept


def _write(trees: Mapping[str, Tree], path: Path, about: CheckpointMetadata) -> None:
    """Write networks as a checkpoint of Keepfast, without what belonged to another state of them."""
    told = CheckpointMetadata(
        format_version=FORMAT_VERSION,
        keepfast=__version__,
        backend=about.backend,
        modules=tuple(trees),
        time=time.time(),
        timestep=about.timestep,
        module=next(iter(trees)) if len(trees) == 1 else None,
    )
    state = next(iter(trees.values())) if len(trees) == 1 else dict(trees)
    format_of("checkpoint format", path).save(Checkpoint(state, told.as_mapping()), path)
