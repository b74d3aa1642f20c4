"""A module's tree laid out for the other framework, where no module of it is at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from keepfast.errors import LoadMismatch
from keepfast.interfaces.checkpoint_reader import Side
from keepfast.migration.conversion import flattened
from keepfast.migration.layers import Layer, layers_of
from keepfast.migration.layouts import Array, NoPlaceError, Rule, reordered
from keepfast.migration.mapping import Pair
from keepfast.migration.roles import words
from keepfast.tree import Tree

_STATISTICS = frozenset({"mean", "var"})
_NAMES: dict[Side, dict[str, str]] = {
    "flax": {"PReLU": "negative_slope"},
    "torch": {"PReLU": "weight"},
}


def laid_out(name: str, tree: Tree, side: Side, to: Side) -> tuple[Tree, list[str]]:
    """Return a tree in the layout of a framework, with its own names for the layers, and what there is to tell.

    Args:
        name: the module's name.
        tree: its tree, the arrays NumPy arrays.
        side: how it is laid out.
        to: how it is to be.

    Raises:
        LoadMismatch: if a layer cannot be laid out without knowing the module that it goes into.
    """
    layers = layers_of(name, tree, side)
    pairs = [(Pair(replace(layer, side=to), layer, layer.rules, ""), _kind(layer)) for layer in layers]
    behind = flattened([(pair, rule) for pair, rule in pairs if side != to])
    made: dict[str, Array] = {}
    notes: list[str] = []
    for number, (pair, rule) in enumerate(pairs):
        entries, told = _entries(pair.source, rule, to, behind.get(number))
        made |= {_path(pair.source, rule, entry, to): np.ascontiguousarray(array) for entry, array in entries.items()}
        notes += [f"{pair.source.name}: {note}" for note in told]
        if len({each.kind for each in pair.rules}) > 1:
            notes.append(f"{pair.source.name}: taken for a {rule.kind}; `--like` tells what it is")
    return (made if to == "torch" else _nested(made)), notes


def _kind(layer: Layer) -> Rule:
    """Return what a layer most likely is: a convolution that is not transposed, unless its name says otherwise."""
    told = set(words(layer.path))
    preferred = {
        "Embedding": bool(told & {"embedding", "embed", "embeddings", "table", "vocab"}),
        "Bilinear": "bilinear" in told,
        "PReLU": layer.shapes.startswith("weight (1,)"),
    }
    for rule in layer.rules:
        is_transposed = rule.kind.startswith("ConvTranspose") and "with" not in rule.kind
        if preferred.get(rule.kind) or (is_transposed and told & {"transpose", "transposed", "deconv", "upconv"}):
            return rule
    likely = [rule for rule in layer.rules if not preferred.keys() & {rule.kind} and "Transpose" not in rule.kind]
    return (likely or list(layer.rules))[0]


def _entries(layer: Layer, rule: Rule, to: Side, channels: int | None) -> tuple[dict[str, Array], list[str]]:
    if layer.side == to or rule.kind in ("Parameter", "Normaliser"):
        return dict(layer.entries), []
    canonical: Any = rule.canonical(layer.side, layer.entries)
    canonical = canonical if channels is None else reordered(canonical, channels, to)
    own = {_NAMES[to][rule.kind]: canonical["weight"]} if rule.kind in _NAMES[to] else {}
    try:
        made, told = rule.entries(to, canonical, own)
    except (NoPlaceError, KeyError) as error:
        raise LoadMismatch(
            f"`{layer.name}` is a {rule.kind}, which cannot be laid out without a module to go into ({error}); give a "
            "checkpoint of one, `--like` on the command line, or migrate into the module itself"
        ) from error
    if channels is not None:
        told.append(f"its inputs were put into the other order of a flatten behind {channels} channels")
    return made, told


def _path(layer: Layer, rule: Rule, entry: str, to: Side) -> str:
    """Return the path of an entry within the module as the framework names it."""
    parent, _, cell = layer.path.rpartition(".")
    if to == "torch" and rule.kind in ("GRU", "LSTM", "RNN"):
        stacked = layer.path.rpartition(".")[2].isidentifier() and not cell.startswith("l")
        return f"{layer.path}.{entry}" if stacked or layer.side == "flax" else f"{parent}.{entry}_{cell}".lstrip(".")
    if layer.side == to:
        return next(path for name, path in layer.paths.items() if name == entry)
    path = ".".join(part for part in (layer.path, entry) if part)
    if to == "torch":
        return path
    collection = "batch_stats" if rule.kind == "BatchNorm" and entry in _STATISTICS else "params"
    return f"{collection}.{path}"


def _nested(flat: dict[str, Array]) -> Tree:
    made: dict[str, Any] = {}
    for path, array in flat.items():
        *parents, name = path.split(".")
        node = made
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = array
    return made
