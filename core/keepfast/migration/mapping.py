"""Which layer of a file goes into which of a module: by structure, names, roles and order, and never by a guess."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from keepfast.migration.layers import Layer, natural
from keepfast.migration.layouts import Rule
from keepfast.migration.roles import DEVIATION, MEANS, Role, is_last, meanings, ranked, role_of


@final
@dataclass(frozen=True)
class Pair:
    """A layer of a module, and the layer of a file that goes into it.

    Attributes:
        target: the module's.
        source: the file's.
        rules: the kinds of layer that both can be, of which one is right.
        why: what decided.
    """

    target: Layer
    source: Layer
    rules: tuple[Rule, ...]
    why: str


@final
@dataclass
class Assignment:
    """What became of every layer.

    Attributes:
        pairs: the layers that found each other.
        ambiguous: each of the module's layers that several of the file could go into, with these.
        missing: the module's layers that nothing in the file fits.
        unused: the file's layers that go nowhere.
    """

    pairs: list[Pair] = field(default_factory=list)
    ambiguous: list[tuple[Layer, list[Layer]]] = field(default_factory=list)
    missing: list[Layer] = field(default_factory=list)
    unused: list[Layer] = field(default_factory=list)


def assigned(
    targets: Sequence[Layer],
    sources: Sequence[Layer],
    given: Sequence[Pair],
    *,
    auto: bool,
    shared: tuple[str, ...] = (),
) -> Assignment:
    """Find for each layer of a module the layer of a file.

    Args:
        targets: the module's layers.
        sources: the file's layers.
        given: the pairs that the caller named.
        auto: whether to look for more.
        shared: how the names of the file's layers begin that serve policy and critic alike, whatever they say.
    """
    made = Assignment(pairs=list(given))
    taken = {id(pair.target) for pair in given}
    free = [target for target in targets if id(target) not in taken]
    used = {id(pair.source) for pair in given}
    if auto:
        _Search([source for source in sources if id(source) not in used], made, shared).run(free)
    else:
        made.missing += free
    used = {id(pair.source) for pair in made.pairs}
    made.unused = [source for source in sources if id(source) not in used]
    made.pairs.sort(key=lambda pair: (pair.target.module, pair.target.order))
    return made


_Class = tuple[list[Layer], list[Layer]]
"""Layers of the module that could each take the same layers of the file, and those."""


@final
class _Search:
    def __init__(self, sources: Sequence[Layer], made: Assignment, shared: tuple[str, ...]) -> None:
        self._sources = list(sources)
        self._made = made
        known = {
            id(source): Role() if shared and source.name.startswith(shared) else role_of(source) for source in sources
        }
        ranks = ranked(known.values())
        self._roles = {key: ranks[role] for key, role in known.items()}
        self._used: set[tuple[int, Role | None]] = set()
        self._targets: dict[int, Role] = {}

    def run(self, targets: Sequence[Layer]) -> None:
        roles = [role_of(target) for target in targets]
        ranks = ranked(roles)
        self._targets = {id(target): ranks[role] for target, role in zip(targets, roles, strict=True)}
        left = [*self._named_alike(targets, self._targets)]
        groups: dict[Role, list[Layer]] = {}
        for target in left:
            groups.setdefault(ranks[role_of(target)], []).append(target)
        for role in sorted(groups, key=lambda role: role.base is None):  # what says least comes last
            self._match(groups[role], self._view(role, groups[role]))

    def _named_alike(self, targets: Sequence[Layer], roles: Mapping[int, Role]) -> Iterator[Layer]:
        """Pair the modules of which the file has every layer by its own path, and yield the layers of all others."""
        modules: dict[str, list[Layer]] = {}
        for target in targets:
            modules.setdefault(target.module, []).append(target)
        for layers in modules.values():
            found = [each for each in self._below_one(layers) if self._suits(layers, each, roles)]
            exact = [each for each in found if each[0].name == layers[0].name] or found
            if len(exact) == 1 or (exact and len({id(layer) for each in exact for layer in each}) == len(layers)):
                for target, source in zip(layers, exact[0], strict=True):
                    self._pair(target, source, "same name")
            else:
                yield from self._within_module(layers)

    def _below_one(self, layers: Sequence[Layer]) -> Iterator[list[Layer]]:
        """Yield the layers of the file that have the paths of these, below one part of it."""
        by_name = {source.name: source for source in self._sources if self._is_free(source, layers[0])}
        first = layers[0].path
        for name in by_name:
            if name == first or name.endswith(f".{first}") or not first:
                prefix = name[: len(name) - len(first)]
                found = [by_name.get((prefix + layer.path) if layer.path else prefix.rstrip(".")) for layer in layers]
                if all(found):
                    yield [source for source in found if source is not None]

    def _suits(self, layers: Sequence[Layer], found: Sequence[Layer], roles: Mapping[int, Role]) -> bool:
        fits = all(target.shared(source) for target, source in zip(layers, found, strict=True))
        ours = {role for layer in layers if (role := roles[id(layer)]).base is not None}
        theirs = {role for source in found if (role := self._role(source)).base is not None}
        return fits and (not ours or not theirs or ours == theirs)

    def _within_module(self, layers: Sequence[Layer]) -> list[Layer]:
        """Pair the layers of a module with those of the file's module of that name; return them where there is none."""
        view = [source for source in self._sources if source.module and source.module == layers[0].module]
        if not view or self._missing(layers, view):
            return list(layers)
        self._match(layers, view)
        return []

    def _view(self, role: Role, group: Sequence[Layer]) -> list[Layer]:
        """Return the file's layers to look among: as few as have a place for everything."""
        best: list[Layer] = []
        most = -1
        for views in self._views(role, group):
            fitting = [view for view in views if self._missing(group, view) == 0]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                return list({id(layer): layer for view in fitting for layer in view}.values())
            for view in views:
                if (count := len(group) - self._missing(group, view)) > most:
                    best, most = view, count
        return best

    def _views(self, role: Role, group: Sequence[Layer]) -> Iterator[list[list[Layer]]]:
        """Yield what may be looked among, narrow ones first; those of one step are equally good."""
        here = [source for source in self._sources if self._role(source).target == role.target]
        shared = [source for source in here if self._role(source).base is None]
        yield [[source for source in here if self._role(source) == role]]
        for branches in _branches(shared):
            fitting = [branch for branch in branches if self._missing(group, branch) == 0]
            if len(fitting) == 1:
                yield fitting
        yield [[source for source in here if self._role(source) in (role, Role(None, role.target))]]
        if role.base is None:
            others = dict.fromkeys(self._role(source) for source in here if self._role(source).base is not None)
            yield [[source for source in here if self._role(source) == other] for other in others]
            yield [[*shared, *(source for source in here if self._role(source) == other)] for other in others]
        elif role.number is None:
            same = dict.fromkeys(self._role(source) for source in here if self._role(source).base == role.base)
            yield [[source for source in here if self._role(source) == other] for other in same]
        yield [shared]
        yield [here]
        yield [self._sources]

    def _role(self, source: Layer) -> Role:
        return self._roles[id(source)]

    def _candidates(self, target: Layer, view: Sequence[Layer]) -> list[Layer]:
        return [source for source in view if self._is_free(source, target) and target.shared(source)]

    def _is_free(self, source: Layer, target: Layer) -> bool:
        """Say whether a layer of the file may still go there; one that is of no role goes once into each."""
        return self._use(source, target) not in self._used and (id(source), None) not in self._used

    def _use(self, source: Layer, target: Layer) -> tuple[int, Role | None]:
        return id(source), (self._targets[id(target)] if self._role(source).base is None else None)

    def _classes(self, group: Sequence[Layer], view: Sequence[Layer]) -> list[_Class]:
        found: dict[tuple[int, ...], _Class] = {}
        for target in group:
            candidates = self._candidates(target, view)
            found.setdefault(tuple(map(id, candidates)), ([], candidates))[0].append(target)
        return sorted(found.values(), key=lambda each: len(each[1]))

    def _missing(self, group: Sequence[Layer], view: Sequence[Layer]) -> int:
        return sum(max(0, len(targets) - len(sources)) for targets, sources in self._classes(group, view))

    def _match(self, group: Sequence[Layer], view: Sequence[Layer]) -> None:
        for targets, sources in self._classes(group, view):
            left = [source for source in sources if self._is_free(source, targets[0])]
            self._resolve(targets, left)

    def _resolve(self, targets: list[Layer], sources: list[Layer]) -> None:
        """Pair what a class leaves no doubt about; of the rest, list what is in doubt."""
        if not sources:
            self._made.missing += targets
            return
        targets, sources = self._by_meaning(targets, sources)
        if not targets:
            return
        if len(sources) > len(targets):
            sources = _distinct(sources)
        alone = sources and any(_is_alone(target, sources[0]) for target in targets)
        if not sources:
            self._made.missing += targets
        elif len(targets) != len(sources) or alone or not _in_order(targets, sources):
            self._made.ambiguous += [(target, sources) for target in targets]
        else:
            why = "the only one of its structure" if len(targets) == 1 else "order"
            for target, source in zip(targets, sources, strict=True):
                self._pair(target, source, why)

    def _by_meaning(self, targets: list[Layer], sources: list[Layer]) -> tuple[list[Layer], list[Layer]]:
        """Pair layers whose names mean the same and nothing else does, and return the rest."""
        ours, theirs = _told(targets), _told(sources)
        scores = np.array([[len(one & other) for other in theirs] for one in ours])
        pairs = []
        for row, column in zip(*np.nonzero(scores), strict=True):
            best = scores[row, column]
            if np.sum(scores[row] >= best) == 1 and np.sum(scores[:, column] >= best) == 1:
                pairs.append((int(row), int(column)))
        for row, column in pairs:
            self._pair(targets[row], sources[column], "name")
        rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
        return (
            [target for number, target in enumerate(targets) if number not in rows],
            [source for number, source in enumerate(sources) if number not in columns],
        )

    def _pair(self, target: Layer, source: Layer, why: str) -> None:
        self._used.add(self._use(source, target))
        self._made.pairs.append(Pair(target, source, tuple(target.shared(source)), why))


def _branches(sources: Sequence[Layer]) -> Iterator[list[list[Layer]]]:
    """Yield layers by what they are below of, deep ones first: networks that nothing names stand apart all the same."""
    paths = {id(source): source.name.split(".")[:-1] for source in sources}
    for depth in range(max(map(len, paths.values()), default=0), 0, -1):
        groups: dict[tuple[str, ...], list[Layer]] = {}
        for source in sources:
            groups.setdefault(tuple(paths[id(source)][:depth]), []).append(source)
        if len(groups) > 1:
            yield list(groups.values())


def _is_alone(target: Layer, source: Layer) -> bool:
    """Say whether two are lone parameters, of which shapes tell nothing."""
    return all(rule.kind == "Parameter" for rule in target.shared(source))


def _told(layers: Sequence[Layer]) -> list[set[str]]:
    """Return what the name of each layer tells of it that it does not tell of all."""
    found = [meanings(layer) for layer in layers]
    common = set.intersection(*found) if len(found) > 1 else set()
    return [each - common for each in found]


def _distinct(sources: Sequence[Layer]) -> list[Layer]:
    """Return layers without those whose values are another's, as where one is stored under two names."""
    found: dict[tuple[bytes, ...], Layer] = {}
    for source in sources:
        found.setdefault(tuple(array.tobytes() for array in source.entries.values()), source)
    return list(found.values())


def _in_order(targets: Sequence[Layer], sources: Sequence[Layer]) -> bool:
    """Say whether the order of layers tells which is which."""
    if len(targets) == 1:
        return True
    if any(rule.kind == "Normaliser" for rule in targets[0].rules):
        return False
    telling = {MEANS, DEVIATION}
    if any(telling & each for each in _told(targets)) != any(telling & each for each in _told(sources)):
        return False  # names say on one side which is the mean; on the other side nothing does
    return _is_ordered(targets) and _is_ordered(sources)


def _is_ordered(layers: Sequence[Layer]) -> bool:
    """Say whether layers stand in the order in which they were made, and no name tells another one.

    PyTorch keeps that order. Flax sorts names once a tree goes through a transformation; numbers in them then tell.
    """
    paths = [layer.path for layer in layers]
    stems = {re.sub(r"\d+", "#", path) for path in paths}
    if len(stems) == 1 and paths != sorted(paths, key=natural):
        return False  # `fc2` was made before `fc1`: which is called first, its order does not tell
    if any(is_last(layer) for layer in layers[:-1]) and not all(map(is_last, layers)):
        return False
    return layers[0].side == "torch" or len(stems) == 1 or paths != sorted(paths, key=natural)
