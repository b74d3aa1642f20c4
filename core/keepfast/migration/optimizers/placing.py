"""The optimizers of both sides found, and what became of each put into the trees that they are part of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keepfast.errors import InvalidValue, LoadMismatch, as_given, did_you_mean
from keepfast.interfaces.checkpoint_reader import ForeignCheckpoint, Side
from keepfast.migration.conversion import Converted
from keepfast.migration.layers import Layer
from keepfast.migration.optimizers.building import place_for
from keepfast.migration.optimizers.carrying import Carried, Carrying, OptimizerPlace, like
from keepfast.migration.optimizers.kept import Kept, read
from keepfast.migration.optimizers.ownership import NotKnownError, Parameter, parameters_of
from keepfast.migration.optimizers.states import is_scheduler, is_state, optimizers_in, steps_beside
from keepfast.migration.report import MigratedOptimizer
from keepfast.tree import Tree, flatten, items, map_leaves, rebuild


def optimizer_places(
    module: str, tree: Tree, names: Any = None, kinds: Mapping[str, Mapping[str, Any]] | None = None
) -> list[OptimizerPlace]:
    """Return the optimizers in a module's tree.

    Args:
        module: the module's name.
        tree: its tree, the arrays NumPy arrays.
        names: what the parameters of each group of an optimizer of PyTorch are called.
        kinds: what is known of the class of the state of optax at each path.
    """
    return [
        OptimizerPlace(
            module,
            path,
            state,
            names,
            {each.removeprefix(f"{path}.") if path else each: told for each, told in (kinds or {}).items()},
            steps_beside(tree, path),
            is_state(tree),
            tree,
        )
        for path, state in optimizers_in(tree)
    ]


def built(
    made: Sequence[Converted],
    targets: Sequence[Parameter],
    found: ForeignCheckpoint,
    sources: Sequence[Layer],
    side: Side,
) -> list[Carried]:
    """Return the states of a file's optimizers for a framework of which no optimizer is at hand; else as `carried`."""
    order = {name: list(flatten(tree)) for name, tree in found.modules.items()}
    pool, refused = pooled(found, parameters_of(sources, order))
    carrying = Carrying(made, targets, pool, refused)
    states = []
    for name in dict.fromkeys(place.name for place in _places_in(found)):
        kept = {parameter: each for parameter, all_of in pool.items() for each in all_of if each.optimizer == name}
        owned = [parameter for parameter in targets if set(carrying.sources(parameter)) & kept.keys()]
        try:
            if name in refused:
                raise NotKnownError(refused[name])
            states.append(carrying.carry(place_for(name, kept, owned, side)))
        except NotKnownError as error:
            entry = MigratedOptimizer(name, "left", why=str(error))
            states.append(Carried(OptimizerPlace(name, "", None), entry))
    return states


def told_apart(
    name_map: Mapping[str, Any], places: Sequence[OptimizerPlace], found: ForeignCheckpoint
) -> tuple[dict[str, Any], list[OptimizerPlace]]:
    """Return a map of names without the rows for optimizers, and the optimizers with what these say.

    Raises:
        LoadMismatch: if the file has no optimizer of that name.
        InvalidValue: if the map is none.
    """
    if not isinstance(name_map, Mapping):
        raise InvalidValue(
            f"`name_map` is {as_given(name_map)}; allowed: a mapping from own names to names of the file"
        )
    rows = {place.name: name_map[place.name] for place in places if isinstance(name_map.get(place.name), str)}
    known = [place.name for place in _places_in(found)]
    for theirs in rows.values():
        if theirs not in known:
            raise LoadMismatch(
                f"`name_map` names the optimizer `{theirs}`, which the file does not have{did_you_mean(theirs, known)}"
            )
    rest = {own: theirs for own, theirs in name_map.items() if own not in rows}
    return rest, [replace(place, told=rows.get(place.name)) for place in places]


def carried(
    places: Sequence[OptimizerPlace],
    made: Iterable[Converted],
    targets: Sequence[Parameter],
    found: ForeignCheckpoint,
    sources: Sequence[Layer],
) -> list[Carried]:
    """Return what becomes of optimizers, once it is known what became of the layers of networks.

    Args:
        places: the optimizers.
        made: what became of the layers.
        targets: the parameters of the networks that were migrated into.
        found: the file.
        sources: the layers of its networks.
    """
    if not places:
        return []
    order = {name: list(flatten(tree)) for name, tree in found.modules.items()}
    pool, refused = pooled(found, parameters_of(sources, order))
    if not pool and not refused:
        why = "the file has no state of an optimizer"
        return [Carried(each, MigratedOptimizer(each.name, "left", why=why)) for each in places]
    trees = [*found.modules.values(), *found.optimizers.values()]
    scheduled = {int(tree["last_epoch"]) for tree in trees if is_scheduler(tree)}
    carrying = Carrying(made, targets, pool, refused, next(iter(scheduled)) if len(scheduled) == 1 else None)
    return [carrying.carry(place) for place in places]


def pooled(found: ForeignCheckpoint, parameters: Sequence[Parameter]) -> tuple[dict[str, list[Kept]], dict[str, str]]:
    """Return what the optimizers of a file keep for each parameter, and why some cannot be read."""
    pool: dict[str, list[Kept]] = {}
    refused: dict[str, str] = {}
    for place in _places_in(found):
        steps = [float(np.asarray(_at(found, place.module, path))) for path in place.steps]
        try:
            kept = read(place.name, place.tree, parameters, place.names, steps)
        except NotKnownError as error:
            refused[place.name] = str(error)
            continue
        for name, each in kept.items():
            pool.setdefault(name, []).append(each)
    return pool, refused


def _places_in(found: ForeignCheckpoint) -> list[OptimizerPlace]:
    trees = {**found.modules, **found.optimizers}
    return [place for name, tree in trees.items() for place in optimizer_places(name, tree, found.parameters.get(name))]


def _at(found: ForeignCheckpoint, module: str, path: str) -> Any:
    tree = found.optimizers[module] if module in found.optimizers else found.modules[module]
    return flatten(tree)[path]


def unused(found: ForeignCheckpoint, carried_over: Sequence[Carried]) -> list[MigratedOptimizer]:
    """Return the optimizers of a file that went nowhere."""
    used = {name for each in carried_over for name in each.entry.sources}
    names = dict.fromkeys(place.name for place in _places_in(found))
    return [MigratedOptimizer(name, "unused") for name in names if name not in used]


def with_states(module: str, tree: Tree, states: Iterable[Carried]) -> Tree:
    """Return a module's tree with the new states of the optimizers in it.

    Args:
        module: the module's name.
        tree: its tree.
        states: what became of all optimizers.
    """
    for each in states:
        if each.place.module == module and each.tree is not None:
            tree = _put(tree, each.place.path.split(".") if each.place.path else [], each.tree)
            if each.entry.steps is not None:
                tree = _counted(tree, each.place.steps, each.entry.steps)
    return tree


def _counted(tree: Tree, paths: Sequence[str], steps: int) -> Tree:
    return map_leaves(lambda path, leaf: like(leaf, steps) if path in paths else leaf, tree)


def _put(tree: Tree, path: Sequence[str], state: Tree) -> Tree:
    """Return a tree with another at a path in it."""
    if not path:
        return state
    first, *rest = path
    return rebuild(tree, [_put(child, rest, state) if str(key) == first else child for key, child in items(tree) or ()])
