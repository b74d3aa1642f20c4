"""States of optimizers found in trees, and those of optax taken apart, wherever in chains and wrappers they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from keepfast.migration.optimizers.families import CLASSES, FIELDS
from keepfast.tree import Tree, flatten, is_array, items

_INJECTED = frozenset({"count", "hyperparams", "inner_state"})
_TALLIES = frozenset({"notfinite_count", "last_finite", "total_notfinite"})
"""What `optax.apply_if_finite` counts, which is of the run and stays."""

OPT_STATE, _STEP = "opt_state", "step"

_DEEPEST = 40
"""How many containers are looked into, one in the other, for states; parameters may be deeper in these."""


@final
@dataclass
class OptaxState:
    """A state of optax, taken apart.

    Attributes:
        slots: by the path of a parameter within its tree, the path of what is kept for it under each of its names.
        counts: by the same, where the steps of its transformation are counted, if they are.
        others: where steps are counted besides: by schedules, and by what injects hyperparameters.
        hyperparameters: by the path of a parameter, where each hyperparameter stands that is injected.
        scaled: the parameters whose momentum is of steps that were multiplied with the rate before.
        unknown: the paths of what is no state that is known, with what it is.
    """

    slots: dict[str, dict[str, str]] = field(default_factory=dict)
    counts: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    hyperparameters: dict[str, dict[str, str]] = field(default_factory=dict)
    scaled: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


def is_torch(tree: Tree) -> bool:
    """Say whether a tree is the state of an optimizer of PyTorch."""
    return isinstance(tree, Mapping) and {"state", "param_groups"} <= set(tree)


def is_scheduler(tree: Tree) -> bool:
    """Say whether a tree is the state of a scheduler of rates of PyTorch."""
    return isinstance(tree, Mapping) and {"last_epoch", "base_lrs"} <= set(tree)


def is_state(tree: Tree) -> bool:
    """Say whether a tree is the state of an optimizer, and nothing else."""
    if is_torch(tree):
        return True
    if isinstance(tree, Mapping) and OPT_STATE in tree:
        return not any(is_array(leaf) for leaf in flatten(_without_optimizer(tree)).values())
    if not isinstance(tree, dict | list | tuple):
        return False
    found = taken_apart(tree)
    if not found.unknown:
        return bool(found.slots or (found.others and isinstance(tree, tuple)))
    return _resembles(tree)


def _resembles(tree: Tree) -> bool:
    """Say whether a tree has the words of a state in it, of a transformation that is not known, and no parameters."""
    if isinstance(tree, Mapping) and any("param" in str(key) for key in tree):
        return False
    paths = [path.split(".") for path in flatten(tree)]
    words = {word for path in paths for word in path}
    counted = any(path[-1] == "count" for path in paths)
    return ({"mu", "nu"} <= words and counted) or bool({"trace", "sum_of_squares"} & words)


def optimizers_in(tree: Tree, path: str = "", deep: int = 0) -> Iterator[tuple[str, Tree]]:
    """Yield the states of optimizers in a tree of a module, each with its path, such as that of a TrainState."""
    if deep > _DEEPEST:
        return
    if isinstance(tree, Mapping) and OPT_STATE in tree:
        yield _below(path, OPT_STATE), tree[OPT_STATE]
    elif is_state(tree):
        yield path, tree
    elif isinstance(tree, Mapping):
        for key, child in tree.items():
            if isinstance(child, Mapping | list | tuple):
                yield from optimizers_in(child, _below(path, key), deep + 1)


def steps_beside(tree: Tree, path: str) -> list[str]:
    """Return where a TrainState, or an optimizer of flax.nnx, counts the steps of the state at a path."""
    parent, _, name = path.rpartition(".")
    node = tree
    for part in parent.split(".") if parent else ():
        node = next((child for key, child in items(node) or () if str(key) == part), None)
    beside = name == OPT_STATE and isinstance(node, Mapping) and _STEP in node
    return [_below(parent, _STEP)] if beside else []


def optimizer_paths(tree: Tree) -> tuple[str, ...]:
    """Return how the paths begin that are of optimizers in a tree, and not of its network."""
    if is_scheduler(tree):
        return tuple(map(str, tree))
    found = [path for path, _ in optimizers_in(tree)]
    return (*found, *(step for path in found for step in steps_beside(tree, path)))


def _without_optimizer(tree: Mapping[Any, Tree]) -> dict[Any, Tree]:
    return {key: child for key, child in tree.items() if key not in (OPT_STATE, _STEP)}


def taken_apart(tree: Tree, kinds: Mapping[str, Mapping[str, Any]] | None = None) -> OptaxState:
    """Return a state of optax taken apart.

    Args:
        tree: the state.
        kinds: what is known of the class of the state at each path.
    """
    found = OptaxState()
    _Reading(found, kinds or {}).read(tree, "", {})
    return found


@final
class _Reading:
    def __init__(self, found: OptaxState, kinds: Mapping[str, Mapping[str, Any]]) -> None:
        self._found = found
        self._kinds = kinds

    def read(self, tree: Tree, path: str, given: Mapping[str, str], deep: int = 0) -> None:
        if is_array(tree) or items(tree) is None or deep > _DEEPEST:
            if tree is not None:
                self._found.unknown.append(path)
            return
        names = frozenset(map(str, tree)) if isinstance(tree, Mapping) else frozenset()
        if names in FIELDS and _are_moments(tree, FIELDS[names]):
            self._moments(tree, path, FIELDS[names], given)
        elif names == {"count"}:
            self._found.others.append(_below(path, "count"))
        elif names >= _INJECTED:
            self._injected(tree, path, deep)
        else:
            self._chain({key: child for key, child in items(tree) or () if key not in _TALLIES}, path, given, deep)

    def _moments(self, tree: Tree, path: str, fields: Mapping[str, str], given: Mapping[str, str]) -> None:
        told = self._kinds.get(path, {}).get("kind")
        if told is not None and told not in CLASSES:
            self._found.unknown.append(f"{path or 'it'} (a {told})")
        for name, slot in fields.items():
            for parameter in flatten(tree[name]):
                place = ".".join(part for part in (path, name, parameter) if part)
                if slot in self._found.slots.setdefault(parameter, {}):
                    self._found.unknown.append(f"{place} (a second one of the parameter)")
                self._found.slots[parameter][slot] = place
                self._found.hyperparameters.setdefault(parameter, dict(given))
                if "count" in tree:
                    self._found.counts[parameter] = _below(path, "count")

    def _injected(self, tree: Mapping[str, Tree], path: str, deep: int) -> None:
        self._found.others.append(_below(path, "count"))
        states = tree.get("hyperparams_states", {})
        self._found.others += [_below(path, f"hyperparams_states.{each}") for each in flatten(states)]
        given = {name: _below(path, f"hyperparams.{name}") for name in flatten(tree["hyperparams"])}
        self.read(tree["inner_state"], _below(path, "inner_state"), given, deep + 1)

    def _chain(self, parts: Mapping[Any, Tree], path: str, given: Mapping[str, str], deep: int) -> None:
        """Read the parts of a chain, in which a momentum behind the rate is of steps that have it in them."""
        last: int | None = None
        for number, (key, child) in enumerate(parts.items()):
            place = int(key) if str(key).isdecimal() else number
            names = frozenset(map(str, child)) if isinstance(child, Mapping) else frozenset()
            self.read(child, _below(path, key), given, deep + 1)
            if names == {"trace"} and last is not None and place - last > 1:
                self._found.scaled |= set(flatten(child["trace"]))
            last = place if "nu" in names else last


def _are_moments(tree: Mapping[str, Tree], fields: Mapping[str, str]) -> bool:
    """Say whether fields hold trees of arrays of one structure, and the count is one number."""
    parts = [flatten(tree[name]) for name in fields]
    arrays = all(is_array(leaf) for part in parts for leaf in part.values())
    counted = "count" not in tree or items(tree["count"]) is None
    return arrays and counted and all(part.keys() == parts[0].keys() for part in parts)


def _below(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
