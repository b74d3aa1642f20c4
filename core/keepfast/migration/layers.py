"""Trees taken apart into layers, of which each is a module of PyTorch or Flax, a normaliser or a lone parameter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from keepfast.interfaces.checkpoint_reader import Side
from keepfast.migration.layouts import BY_KIND, Array, Rule, kinds
from keepfast.migration.optimizers.states import optimizer_paths
from keepfast.migration.rules.normalisers import ALONE, STATISTICS
from keepfast.tree import Tree, flatten, is_array

COLLECTIONS = frozenset({"params", "batch_stats", "_orig_mod", "_fsdp_wrapped_module"})
"""What stands in a path for a collection or a wrapper, and tells nothing of the layer."""

_RANDOM = frozenset({"rngs", "rng", "rng_state"})
_RECURRENT = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)_(l\d+(?:_reverse)?)$")
_FLAX_LEAVES = frozenset({"kernel", "scale", "embedding", "negative_slope", "w", "W"})
_BY_HAND = {"w": "kernel", "W": "kernel", "b": "bias"}
"""What trees that are written by hand call the parts of a dense layer."""

_COMPOSITE = ("MultiheadAttention", "GRU", "LSTM", "RNN")


@final
@dataclass(frozen=True)
class Layer:
    """One layer of a tree.

    Attributes:
        module: the name of the module that it is part of.
        path: its path within that module, without collections; "" for the module itself.
        side: how its entries are laid out.
        entries: its arrays by their names below it.
        paths: the whole path within the module of each of them.
        rules: the kinds of layer that it can be.
        order: its place among the layers of its module.
        owner: the name of that module's class, which may tell what it is for.
    """

    module: str
    path: str
    side: Side
    entries: Mapping[str, Array] = field(repr=False)
    paths: Mapping[str, str] = field(repr=False)
    rules: tuple[Rule, ...] = field(repr=False)
    order: int = 0
    owner: str = ""

    @property
    def name(self) -> str:
        """Return its full path, the module's name first."""
        return ".".join(part for part in (self.module, self.path) if part) or "(root)"

    @property
    def shapes(self) -> str:
        """Return the shapes of its entries, as they are shown."""
        return ", ".join(f"{name or 'value'} {tuple(array.shape)}" for name, array in self.entries.items())

    def shared(self, other: Layer) -> list[Rule]:
        """Return the kinds of layer that this one and another both can be, of one structure."""
        theirs = {rule.kind for rule in other.rules}
        found = [
            rule
            for rule in self.rules
            if rule.kind in theirs
            and rule.signature(self.side, self.entries) == rule.signature(other.side, other.entries)
        ]
        return found[:1] if self.side == other.side else found  # where nothing is laid out anew, any rule does


def side_of(tree: Tree, default: Side = "torch") -> Side:
    """Return how the arrays of a tree are laid out, as their names tell."""
    leaves = {path.rpartition(".")[2] for path in flatten(tree)}
    if leaves & _FLAX_LEAVES:
        return "flax"
    return "torch" if "weight" in leaves else default


def layers_of(module: str, tree: Tree, side: Side, owner: str = "") -> list[Layer]:
    """Return the layers of a module's tree, in the order in which it has them.

    Args:
        module: the module's name.
        tree: its tree, the arrays NumPy arrays; what is neither array nor number is passed over, and so is the state of
            an optimizer in it.
        side: how it is laid out.
        owner: the name of the module's class.
    """
    groups: dict[str, dict[str, str]] = {}
    others = optimizer_paths(tree)
    arrays = {
        path: _array(leaf)
        for path, leaf in flatten(tree).items()
        if _is_value(leaf)
        and _is_told(path)
        and not any(path == each or path.startswith(f"{each}.") for each in others)
    }
    for path in arrays:
        parent, name = _placed(path, side)
        groups.setdefault(parent, {}).setdefault(name, path)
    _join(groups, arrays, side)
    made = [each for parent, names in groups.items() for each in _layers(module, parent, names, arrays, side)]
    return [replace(layer, order=number, owner=owner) for number, layer in enumerate(_in_order(made, side))]


def _is_value(leaf: Any) -> bool:
    return is_array(leaf) or (isinstance(leaf, int | float) and not isinstance(leaf, bool))


def _is_told(path: str) -> bool:
    return _RANDOM.isdisjoint(path.split("."))


def _array(leaf: Any) -> Array:
    return np.asarray(leaf)


def _placed(path: str, side: Side) -> tuple[str, str]:
    """Return the path of the layer that an entry is part of, and its name below that."""
    parts = [part for part in path.split(".") if part not in COLLECTIONS] or [""]
    *parent, name = parts
    if parent and parent[0] == "module":
        parent = parent[1:]
    if side == "torch" and (found := _RECURRENT.match(name)):
        return ".".join([*parent, found[2]]), found[1]
    return ".".join(parent), _BY_HAND.get(name, name) if side == "flax" else name


def _join(groups: dict[str, dict[str, str]], arrays: Mapping[str, Array], side: Side) -> None:
    """Put the groups of a layer that is made of several, such as the gates of a cell, into one."""
    for parent in [*dict.fromkeys(group.rpartition(".")[0] for group in groups), *list(groups)]:
        below = [group for group in groups if group == parent or (group and group.rpartition(".")[0] == parent)]
        joined = {
            f"{group[len(parent) :].lstrip('.')}.{name}".lstrip("."): path
            for group in below
            for name, path in groups[group].items()
        }
        if len(below) > 1 and _is_composite(side, {name: arrays[path] for name, path in joined.items()}):
            kept = list(groups.items())
            groups.clear()
            for group, names in kept:
                if group not in below:
                    groups[group] = names
                elif group == below[0]:
                    groups[parent] = joined


def _is_composite(side: Side, entries: Mapping[str, Array]) -> bool:
    return any(BY_KIND[kind].reads(side, entries) for kind in _COMPOSITE if _is_whole(kind, entries))


def _is_whole(kind: str, entries: Mapping[str, Array]) -> bool:
    """Say whether entries are nothing but such a layer's."""
    if kind != "MultiheadAttention":
        return True
    known = ("query.", "key.", "value.", "out.", "out_proj.", "in_proj_", "q_proj_", "k_proj_", "v_proj_")
    return all(name.startswith(known) for name in entries)


def _layers(
    module: str, parent: str, names: Mapping[str, str], arrays: Mapping[str, Array], side: Side
) -> Iterator[Layer]:
    """Yield the layer that a group of entries is, or, where they are none together, each by itself."""
    entries = {name: arrays[path] for name, path in names.items()}
    rules = [*kinds(side, entries), *([STATISTICS] if STATISTICS.reads(side, entries) else [])]
    if rules and set(entries) != {"bias"}:
        rules += [ALONE] if len(entries) == 1 and next(iter(entries.values())).ndim <= 1 else []
        yield Layer(module, parent, side, entries, dict(names), tuple(rules))
        return
    whole = _inner(entries, side)
    if whole:
        yield from _layers(module, parent, {name: names[name] for name in whole}, arrays, side)
    for name, path in names.items():
        if name not in whole:
            at = ".".join(part for part in (parent, name) if part)
            yield Layer(module, at, side, {"": arrays[path]}, {"": path}, (ALONE,))


def _inner(entries: Mapping[str, Array], side: Side) -> tuple[str, ...]:
    """Return the names of a layer that lies among lone parameters, such as a dense one beside a log of a deviation."""
    for wanted in (("weight", "bias"), ("kernel", "bias"), ("scale", "bias"), ("weight",), ("kernel",)):
        part = {name: entries[name] for name in wanted if name in entries}
        if len(part) == len(wanted) < len(entries) and kinds(side, part):
            return wanted
    return ()


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in text as numbers."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", text)]


def _in_order(layers: list[Layer], side: Side) -> list[Layer]:
    """Return layers in the order that their module has them; one that sorted its keys had them by number."""
    paths = [layer.path for layer in layers]
    if side == "flax" and paths == sorted(paths):
        return sorted(layers, key=lambda layer: natural(layer.path))
    return layers
