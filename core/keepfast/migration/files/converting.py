"""Checkpoint files into checkpoint files: other formats, other frameworks, parts, and values from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from keepfast._system.disk.bounded import within_memory
from keepfast._version import __version__
from keepfast.errors import InvalidValue, UsageError, did_you_mean
from keepfast.interfaces.checkpoint_reader import ForeignCheckpoint, Side
from keepfast.interfaces.checkpoint_store import FORMAT_VERSION, Checkpoint, CheckpointMetadata
from keepfast.migration.calls import read_foreign
from keepfast.migration.engine import MigrationOptions, Place, Plan, Source
from keepfast.migration.layers import layers_of, side_of
from keepfast.migration.optimizers.ownership import NotKnownError
from keepfast.migration.optimizers.placing import optimizer_places, unused
from keepfast.migration.optimizers.states import OPT_STATE, is_scheduler, is_state
from keepfast.migration.readers.own import separated
from keepfast.migration.report import MigratedOptimizer, MigrationReport
from keepfast.migration.roles import role_of
from keepfast.migration.rules.framework import laid_out
from keepfast.plugins.formats import format_of, read_checkpoint
from keepfast.plugins.locations import writable
from keepfast.tree import Tree, flatten

Framework = Literal["torch", "jax"]

_NO_RATES = "a scheduler's rates are known to itself alone; migrate into the agent that has it"
_SIDES: dict[str, Side] = {"torch": "torch", "jax": "flax"}
_FRAMEWORKS = {side: framework for framework, side in _SIDES.items()}
_ROLES = {"policy": "policy", "actor": "policy", "value": "critic", "critic": "critic"}


def migrate_file(
    source: str | Path, checkpoint: str | Path, options: MigrationOptions, output: Path | None = None
) -> MigrationReport:
    """Migrate a checkpoint of any library into the networks of a checkpoint of Keepfast.

    Args:
        source: the checkpoint to take values from.
        checkpoint: the one whose networks get them, and its optimizers, where the source has states for them. What a
            resume needs besides stays behind.
        options: how; of a dry run nothing is written.
        output: where to write; None replaces the checkpoint.

    Returns:
        What came from where.

    Raises:
        LoadMismatch: if anything is ambiguous, missing or without a place; nothing was written.
        NotFound: if a file is not there.
    """
    read = read_foreign(source)
    target = None if options.dry_run else writable(output or checkpoint)
    found = read_checkpoint(Path(checkpoint))
    plan, names = _plan(read, found, options)
    report = plan.settled(options)
    if target is not None:
        _write({name: plan.tree(name) for name in names}, target, found.about)
    return report


def _plan(read: Source, found: Checkpoint, options: MigrationOptions) -> tuple[Plan, list[str]]:
    """Return the plan for a checkpoint of Keepfast, and the modules that get values: no optimizer keeps its own."""
    networks, others = separated(dict(found.modules))
    named = found.about.names or {}
    optimizers = [
        place for name, tree in (networks | others).items() for place in optimizer_places(name, tree, named.get(name))
    ]
    plan = Plan.of(_places(networks, found.about.backend), read, options, optimizers)
    left = [MigratedOptimizer(name, "left", why=_NO_RATES) for name, tree in others.items() if is_scheduler(tree)]
    plan = replace(plan, told=left)
    return plan, [name for name in found.modules if name in networks or name in plan.carries()]


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
        OutOfMemory: if the file holds what takes more memory than there is, as one number that stands for many.
    """
    target = writable(target)
    if target.exists() and not replace_file:
        raise UsageError(f"`{target}` is there already; give another name, or replace it (`--force`)")
    format_of("checkpoint format", target)
    with within_memory(source):
        return _converted(source, target, to, like, modules)


def _converted(
    source: str | Path,
    target: Path,
    to: Framework | None,
    like: str | Path | None,
    modules: Sequence[str] | None,
) -> list[str]:
    """Convert a checkpoint, as `convert_file` does, into a file that may be replaced."""
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
    states, told = _states(_with_plain_names(found), made, side)
    _write(made | states, target, CheckpointMetadata(backend=_FRAMEWORKS[side], names=_named(found, states, side)))
    return [*notes, *told]


def _with_plain_names(found: ForeignCheckpoint) -> ForeignCheckpoint:
    """Return a checkpoint in which no optimizer is called as its network is."""
    names = {name: name if "opt" in name else f"{name}_optimizer" for name in found.optimizers}
    return replace(
        found,
        optimizers={names[name]: tree for name, tree in found.optimizers.items() if is_state(tree)},
        parameters={names.get(name, name): each for name, each in found.parameters.items()},
    )


def _states(found: ForeignCheckpoint, made: Mapping[str, Tree], side: Side) -> tuple[dict[str, Tree], list[str]]:
    """Return the states of the optimizers of a file for a framework, and what there is to tell."""
    own = found.side or side_of(dict(found.modules))
    if own == side:
        return dict(found.optimizers), []
    if not unused(found, []):
        return {}, []
    modules = {name or "module": tree for name, tree in found.modules.items()}
    source = Source(replace(found, modules=modules))
    places = [Place(name, tree, side) for name, tree in made.items()]
    plan = Plan.of(places, source, MigrationOptions())
    try:
        states = plan.converted(side)
    except NotKnownError as error:
        return {}, [f"the optimizers stay behind: {error}"]
    told = [line for each in states for line in (*each.told.notes, *each.told.warnings)]
    told += [str(each.entry) for each in states if each.tree is None]
    kept = {each.place.name: each.tree for each in states if each.tree is not None}
    return {name.replace(f".{OPT_STATE}", "_optimizer"): tree for name, tree in kept.items()}, told


def _named(found: ForeignCheckpoint, states: Mapping[str, Tree], side: Side) -> dict[str, Any] | None:
    """Return what the parameters of optimizers are called, where their states are numbered as the file has them."""
    names = {name: each for name, each in found.parameters.items() if name in states}
    return names or None if side == found.side else None


def _into_like(source: Source, target: Path, like: Path, modules: Sequence[str] | None) -> list[str]:
    shape = read_checkpoint(like)
    plan, names = _plan(source, _of_modules(shape, modules), MigrationOptions())
    report = plan.settled(MigrationOptions())
    _write({name: plan.tree(name) for name in names}, target, shape.about)
    left = [str(each) for each in report.optimizers if each.status == "left"]
    return [*left, *report.notes, *report.warnings]


def _of_modules(shape: Checkpoint, modules: Sequence[str] | None) -> Checkpoint:
    """Return a checkpoint with some of its modules alone; with all of them where it has none of these."""
    chosen = {name: tree for name, tree in shape.modules.items() if modules is None or name in modules}
    if not chosen or len(chosen) == len(shape.modules):
        return shape
    about = replace(shape.about, module=None, modules=tuple(chosen))
    return Checkpoint(chosen, about.as_mapping())


def _chosen(found: ForeignCheckpoint, modules: Sequence[str] | None) -> ForeignCheckpoint:
    """Return a checkpoint of some modules alone; of a module that holds several networks, of those of a role."""
    if modules is None:
        return found
    chosen: dict[str, Tree] = {}
    optimizers: dict[str, Tree] = {}
    for name in modules:
        if name in found.modules:
            chosen[name] = found.modules[name]
        elif name in _ROLES and (part := _of_role(found, _ROLES[name])):
            chosen[name] = part
        elif name in found.optimizers:
            optimizers[name] = found.optimizers[name]
        else:
            known = [*filter(None, found.modules), *found.optimizers]
            raise InvalidValue(f"the file has no module `{name}`{did_you_mean(name, known)}")
    return replace(found, modules=chosen, optimizers=optimizers)


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
    """Write modules as a checkpoint of Keepfast, without what belonged to another state of them."""
    told = CheckpointMetadata(
        format_version=FORMAT_VERSION,
        keepfast=__version__,
        backend=about.backend,
        modules=tuple(trees),
        time=time.time(),
        timestep=about.timestep,
        module=next(iter(trees)) if len(trees) == 1 else None,
        names={name: each for name, each in (about.names or {}).items() if name in trees} or None,
    )
    state = next(iter(trees.values())) if len(trees) == 1 else dict(trees)
    format_of("checkpoint format", path).save(Checkpoint(state, told.as_mapping()), path)
