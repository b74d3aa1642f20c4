"""The way of a migration: a file is read, its layers find their places, are laid out anew, and all go in, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from keepfast._system.warnings import warn
from keepfast.errors import InvalidValue, KeepfastError, LoadMismatch, as_given
from keepfast.interfaces.checkpoint_reader import ForeignCheckpoint, Side
from keepfast.migration.conversion import Converted, converted, flattened, settled
from keepfast.migration.layers import Layer, layers_of, side_of
from keepfast.migration.layouts import Rule
from keepfast.migration.mapping import Assignment, Pair, assigned
from keepfast.migration.optimizers.carrying import Carried, OptimizerPlace
from keepfast.migration.optimizers.ownership import NotKnownError, parameters_of
from keepfast.migration.optimizers.placing import built, carried, optimizer_places, told_apart, unused, with_states
from keepfast.migration.optimizers.schedules import scheduled, schedulers
from keepfast.migration.optimizers.states import is_state, optimizers_in
from keepfast.migration.report import MigratedEntry, MigratedOptimizer, MigrationReport, listing, problems
from keepfast.migration.rules.named import named_pairs
from keepfast.migration.rules.settings import Settings, setting_warnings
from keepfast.modules.registered import RegisteredModule
from keepfast.tree import Tree, flatten, map_leaves

Check = Any
"""A pair of observations and outputs, of arrays, or one for each of several modules, by name."""

_TOLERANCE = 1e-5


@final
@dataclass(frozen=True)
class MigrationOptions:
    """How a migration is asked for.

    Attributes:
        name_map: by the name of a module, own names of entries or layers, each with the file's; of one module alone,
            the names themselves.
        auto_mapping: whether what is not named is looked for.
        verbose: whether the entries of both sides are printed, and what goes where.
        dry_run: whether nothing is loaded.
        quiet: whether what is wrong is left to the report.
        strict: whether anything missing is an error; else what is there is loaded. What is ambiguous always is one.
        check: what proves that outputs agree.
        layers: by the name of a layer, what kind it is, where shapes and names do not tell.
        flatten: whether the inputs of a dense layer behind a flatten are put into the other framework's order.
        device: where restored arrays are placed.
    """

    name_map: Mapping[str, Any] = field(default_factory=dict)
    auto_mapping: bool = True
    verbose: bool = False
    dry_run: bool = False
    strict: bool = True
    quiet: bool = False
    check: Check = None
    layers: Mapping[str, str] = field(default_factory=dict)
    flatten: bool = True
    device: Any = None


@final
@dataclass(frozen=True)
class Source:
    """Where a migration comes from.

    Attributes:
        found: what was read.
        path: the file, if there is one.
        reader: the name of its reader.
        version: that reader's version.
    """

    found: ForeignCheckpoint
    path: Path | None = None
    reader: str = "state_dict"
    version: int = 1


def migrate_all(modules: Sequence[RegisteredModule], source: Source, options: MigrationOptions) -> MigrationReport:
    """Migrate a checkpoint into modules; either all that is wanted is loaded, or nothing is touched.

    Raises:
        LoadMismatch: if anything is ambiguous, has no place or (when strict) is missing, or the check fails.
    """
    parts = [leaf for module in modules if _takes(module) for leaf in module.leaves() if _takes(leaf)]
    if not parts:
        raise InvalidValue("there is no module to migrate into: register networks first, in `checkpoint_modules`")
    others = [
        leaf for module in modules if not module.is_environment for leaf in module.leaves() if _keeps_states(leaf)
    ]
    places = [place for leaf in others for place in _optimizers(leaf)]
    plan = Plan.of([_place(part) for part in parts], source, options, places)
    rated = schedulers([leaf for module in modules if not module.is_environment for leaf in module.leaves()])
    plan = plan.with_schedulers(rated)
    report = plan.settled(options)
    if options.dry_run:
        return report
    changed = [*parts, *(leaf for leaf in (*others, *rated) if leaf not in parts and leaf.name in plan.carries())]
    with contextlib.ExitStack() as undo:
        for part in changed:
            undo.callback(part.restore, part.copy(), None)
        for part in changed:
            part.restore(plan.tree(part.name), options.device)
        report = replace(report, difference=_checked(parts, options.check))
        undo.pop_all()
    return report


def _keeps_states(leaf: RegisteredModule) -> bool:
    """Say whether a module is an optimizer, or has one in it."""
    return not (leaf.is_memory or leaf.is_environment) and next(optimizers_in(leaf.capture()), None) is not None


def _optimizers(leaf: RegisteredModule) -> list[OptimizerPlace]:
    return optimizer_places(leaf.name, leaf.copy(), leaf.names(), leaf.backend.settings(leaf.value))


def _takes(module: RegisteredModule) -> bool:
    """Say whether a module is a network or the like; what an optimizer keeps belongs to other values of it."""
    if any(leaf.is_open or leaf.is_memory for leaf in module.leaves()) or module.is_environment:
        return module.assemble is not None and not module.is_environment
    return not is_state(module.capture())


def _tell(report: MigrationReport, options: MigrationOptions) -> None:
    """Raise or warn of what is wrong with a mapping.

    Raises:
        LoadMismatch: if something is, and it is to be loaded.
    """
    if options.quiet:
        return
    wrong = problems(report)
    fatal = bool(report.ambiguous or report.refused or not report.migrated or (options.strict and report.missing))
    if wrong and fatal and not options.dry_run:
        raise LoadMismatch(
            f"`{report.path or 'the state dict'}` was not migrated, and nothing was loaded (`dry_run=True` shows all, "
            f"`strict=False` loads what is there):\n" + "\n".join(f"  {line}" for line in wrong)
        )
    if wrong:
        warn("the migration is not complete:\n" + "\n".join(f"  {line}" for line in wrong))
    if report.duplicated:
        rows = (f"  `{name}`: {', '.join(places)}" for name, places in report.duplicated.items())
        warn("entries of the file are used several times:\n" + "\n".join(rows))


@final
@dataclass(frozen=True)
class Place:
    """A tree that values go into.

    Attributes:
        name: the name of its module.
        tree: its arrays, as NumPy arrays.
        side: how they are laid out; None leaves that to their names.
        settings: what is known of its layers.
        owner: the name of its class.
    """

    name: str
    tree: Tree
    side: Side | None = None
    settings: Settings = field(default_factory=dict)
    owner: str = ""


def _place(part: RegisteredModule) -> Place:
    tree, value = part.copy(), part.value
    side: Side | None = "torch" if part.backend.name == "torch" else None
    if part.backend.name == "jax":
        side = side_of(tree, "flax")
    # A holder of linen's module and variables is called as that module is.
    return Place(part.name, tree, side, part.backend.settings(value), type(getattr(value, "module", value)).__name__)


@final
@dataclass(frozen=True)
class Plan:
    """What a migration would do."""

    source: Source
    targets: Sequence[Layer]
    sources: Sequence[Layer]
    assignment: Assignment
    made: Sequence[Converted]
    trees: Mapping[str, Tree]
    settings: Mapping[str, Settings]
    carried: Sequence[Carried] = ()
    schedules: Mapping[str, Tree] = field(default_factory=dict)
    told: Sequence[MigratedOptimizer] = ()

    @classmethod
    def of(
        cls,
        places: Sequence[Place],
        source: Source,
        options: MigrationOptions,
        optimizers: Sequence[OptimizerPlace] = (),
    ) -> Plan:
        """Return the plan for places, and the optimizers of their networks.

        Raises:
            LoadMismatch: if `name_map` names what is not there.
        """
        sources = _source_layers(source.found)
        usual = sources[0].side if sources else "torch"
        targets = [
            layer
            for place in places
            for layer in layers_of(place.name, place.tree, place.side or side_of(place.tree, usual), place.owner)
        ]
        settings = {place.name: place.settings for place in places}
        name_map, optimizers = told_apart(options.name_map, optimizers, source.found)
        trained = parameters_of(targets, {place.name: list(flatten(place.tree)) for place in places})
        targets, sources, given = named_pairs(targets, sources, name_map)
        assignment = assigned(targets, sources, given, auto=options.auto_mapping, shared=source.found.shared)
        made = _converted(assignment.pairs, settings, options, source.found.logarithms)
        states = carried(optimizers, made, trained, source.found, _source_layers(source.found))
        trees = {each.module: each.whole for each in optimizers} | {each.name: each.tree for each in places}
        return cls(source, targets, sources, assignment, made, trees, settings, states)

    def carries(self) -> set[str]:
        """Return the names of the modules of which optimizers, or schedulers, get another state."""
        return {each.place.module for each in self.carried if each.tree is not None} | self.schedules.keys()

    def converted(self, side: Side) -> list[Carried]:
        """Return the states of the file's optimizers for a framework of which no optimizer is at hand.

        Raises:
            NotKnownError: if the layers are not all known.
        """
        order = {name: list(flatten(tree)) for name, tree in self.trees.items()}
        if not self.report(dry_run=True):
            raise NotKnownError("layers of the networks did not find each other")
        return built(self.made, parameters_of(self.targets, order), self.source.found, self.sources, side)

    def with_schedulers(self, leaves: Sequence[RegisteredModule]) -> Plan:
        """Return the plan with schedulers set to the steps of their optimizers."""
        states, trees, entries = scheduled(leaves, self.carried)
        return replace(self, carried=states, schedules=trees, told=entries)

    def tree(self, name: str) -> Tree:
        """Return the tree of a place, with the file's values in it."""
        if name in self.schedules:
            return self.schedules[name]
        values = {
            path: array for each in self.made if each.pair.target.module == name for path, array in each.values.items()
        }
        tree = map_leaves(lambda path, leaf: _like(leaf, values[path]) if path in values else leaf, self.trees[name])
        return with_states(name, tree, self.carried)

    def report(self, *, dry_run: bool) -> MigrationReport:
        """Return what would become of every entry."""
        entries = [entry for each in self.made for entry in each.entries]
        for layer in self.assignment.missing:
            entries += _entries(layer, "missing", "nothing in the file fits")
        for layer, sources in self.assignment.ambiguous:
            entries += _entries(layer, "ambiguous", f"{len(sources)} candidates")
        order = {name: number for number, (name, _) in enumerate(self.current())}
        entries.sort(key=lambda entry: order[entry.name])
        used = {name for name, _ in _shapes([each.pair.source for each in self.made])}
        known = [(each.pair, each.rule) for each in self.made if each.rule is not None]
        hints = [hint for each in self.made for hint in each.hints]
        hints += [_hint(layer, sources) for layer, sources in self.assignment.ambiguous]
        notes = [*self.source.found.notes, *(note for each in self.made for note in each.notes)]
        notes += [note for each in self.carried for note in each.told.notes]
        warnings = [warning for each in self.carried for warning in each.told.warnings]
        return MigrationReport(
            path=self.source.path,
            reader=self.source.reader,
            reader_version=self.source.version,
            library=self.source.found.library,
            entries=tuple(entries),
            unused=tuple(name for name, _ in _shapes(self.assignment.unused) if name not in used),
            notes=tuple(dict.fromkeys(notes)),
            warnings=tuple(dict.fromkeys([*setting_warnings(known, self.settings), *warnings])),
            dry_run=dry_run,
            duplicated=_duplicated([each.pair for each in self.made]),
            optimizers=(*(each.entry for each in self.carried), *self.told, *unused(self.source.found, self.carried)),
            _hints=tuple(hints),
        )

    def settled(self, options: MigrationOptions) -> MigrationReport:
        """Return the report, once what `verbose` asks for is printed and what is wrong is told.

        Raises:
            LoadMismatch: if anything is ambiguous, has no place or (when strict) is missing, and it is no dry run.
        """
        report = self.report(dry_run=options.dry_run)
        if options.verbose:
            print(listing(self.current(), self.listed_source(), report))  # noqa: T201  (what `verbose` asks for)
        _tell(report, options)
        return report

    def current(self) -> list[tuple[str, Any]]:
        """Return the entries of the modules, each with its shape."""
        return _shapes(self.targets)

    def listed_source(self) -> list[tuple[str, Any]]:
        """Return the entries of the file, each with its shape."""
        return _shapes(self.sources)


def _duplicated(pairs: Sequence[Pair]) -> dict[str, tuple[str, ...]]:
    places: dict[str, list[str]] = {}
    for pair in pairs:
        for name, _ in _shapes([pair.source]):
            places.setdefault(name, []).append(pair.target.name)
    return {name: tuple(targets) for name, targets in places.items() if len(targets) > 1}


def _shapes(layers: Sequence[Layer]) -> list[tuple[str, Any]]:
    return [
        (".".join(part for part in (layer.module, path) if part), tuple(layer.entries[name].shape))
        for layer in layers
        for name, path in layer.paths.items()
    ]


def _source_layers(found: ForeignCheckpoint) -> list[Layer]:
    return [
        layer for name, tree in found.modules.items() for layer in layers_of(name, tree, found.side or side_of(tree))
    ]


def _converted(
    pairs: Sequence[Pair], settings: Mapping[str, Settings], options: MigrationOptions, logarithms: frozenset[str]
) -> list[Converted]:
    kinds = [settled(pair, options.layers, settings) for pair in pairs]
    known = [(pair, rules[0]) for pair, rules in zip(pairs, kinds, strict=True) if len(rules) == 1]
    behind = flattened(known) if options.flatten else {}
    channels = {id(known[number][0]): count for number, count in behind.items()}
    return [
        converted(pair, rules[0], channels.get(id(pair)), logarithms) if len(rules) == 1 else _doubtful(pair, rules)
        for pair, rules in zip(pairs, kinds, strict=True)
    ]


def _doubtful(pair: Pair, rules: Sequence[Rule]) -> Converted:
    names = [rule.kind for rule in rules]
    why = f"it may be {' or '.join(names)}"
    lines = "; or ".join(f'`layers={{"{pair.target.name}": "{name}"}}`' for name in names)
    entries = _entries(pair.target, "ambiguous", why)
    return Converted(pair, None, {}, tuple(entries), hints=(f"{pair.target.name}: {why}; say {lines}",))


def _entries(layer: Layer, status: Any, why: str) -> list[MigratedEntry]:
    return [
        MigratedEntry(layer.module, path, status, tuple(layer.entries[name].shape), why=why)
        for name, path in layer.paths.items()
    ]


def _hint(layer: Layer, sources: Sequence[Layer]) -> str:
    """Return the candidates of a layer, and the line of `name_map` that would settle each."""

    def line(source: Layer) -> str:
        row = f'{{"{layer.path or layer.module}": "{source.name}"}}'
        return f'`name_map={{"{layer.module}": {row}}}`' if layer.module != "module" else f"`name_map={row}`"

    known = "\n".join(f"    {source.name} ({source.shapes}): {line(source)}" for source in sources)
    return f"{layer.name} ({layer.shapes}): ambiguous, it may be any of\n{known}"


def _like(own: Any, array: Any) -> Any:
    """Return a value as the module has it: an array, or a number of Python."""
    return array if hasattr(own, "shape") else type(own)(array.item())


def _checked(parts: Sequence[RegisteredModule], check: Check) -> float | None:
    """Return the largest difference between a module's outputs and those that were expected.

    Raises:
        LoadMismatch: if they do not agree.
    """
    if check is None:
        return None
    by_name = check if isinstance(check, Mapping) else {_checkable(parts).name: check}
    worst = 0.0
    for name, given in by_name.items():
        observations, expected, *call = _pair(given)
        part = next((part for part in parts if part.name == name), None)
        if part is None:
            raise InvalidValue(f"`check` names the module `{name}`; known: {', '.join(each.name for each in parts)}")
        worst = max(worst, _measured(part, observations, expected, call[0] if call else None))
    return worst


def _pair(given: Any) -> Sequence[Any]:
    """Return the observations, the outputs and perhaps the function that somebody gave as a check."""
    parts = list(given) if isinstance(given, tuple | list) else []
    if len(parts) not in (2, 3) or (len(parts) == 3 and not callable(parts[2])):
        raise InvalidValue(
            f"`check` is {as_given(given)}; allowed: a pair of observations and outputs, and a function as third"
        )
    return parts


def _measured(part: RegisteredModule, observations: Any, expected: Any, call: Callable[[Any], Any] | None) -> float:
    """Return by how much outputs differ; whatever raises on the way is told as a check that failed."""
    try:
        made = part.backend.outputs(part.value, observations) if call is None else call(observations)
        return _difference(part.name, np.asarray(made), np.asarray(expected))
    except KeepfastError:
        raise
    except Exception as error:
        raise LoadMismatch(
            f"`check` has no outputs of `{part.name or 'the module'}` to compare, so nothing was loaded: "
            f"{type(error).__name__}: {error}"
        ) from error


def _checkable(parts: Sequence[RegisteredModule]) -> RegisteredModule:
    named = [part for part in parts if part.name in ("", "policy")]
    if len(parts) == 1 or named:
        return (named or list(parts))[0]
    raise InvalidValue(f"`check` must say of which module: {{name: (observations, outputs)}}, one of {len(parts)}")


def _difference(name: str, made: Any, expected: Any) -> float:
    if made.shape != expected.shape:
        raise LoadMismatch(f"the outputs of `{name or 'the module'}` have the shape {made.shape}, not {expected.shape}")
    difference = float(np.max(np.abs(made - expected), initial=0.0))
    if not difference <= _TOLERANCE * max(1.0, float(np.max(np.abs(expected), initial=0.0))):
        raise LoadMismatch(
            f"the outputs of `{name or 'the module'}` differ by up to {difference:.3g} from those expected (at most "
            f"{_TOLERANCE:g}), so nothing was loaded; see the warnings and notes of a `dry_run`"
        )
    return difference
