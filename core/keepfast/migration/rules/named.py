"""The pairs of layers that the caller names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keepfast._system.arguments.checks import table
from keepfast.errors import InvalidValue, LoadMismatch, as_given, did_you_mean
from keepfast.migration.layers import COLLECTIONS, Layer
from keepfast.migration.mapping import Pair
from keepfast.migration.rules.normalisers import ALONE

_Found = tuple[Layer, str | None]
"""A layer, and the name of one of its entries where that was named, not the layer."""


def named_pairs(
    targets: Sequence[Layer], sources: Sequence[Layer], name_map: Mapping[str, Any]
) -> tuple[list[Layer], list[Layer], list[Pair]]:
    """Return the layers of both sides, and the pairs among them that a map names.

    Where entries of one layer are named that come from several, they become layers by themselves.

    Raises:
        LoadMismatch: if there is no such entry on either side, or the two have other shapes.
        InvalidValue: if the map is none.
    """
    named: dict[int, list[tuple[_Found, _Found]]] = {}
    for module, own, theirs in _rows(name_map, {layer.module for layer in targets}):
        within = [layer for layer in targets if module is None or layer.module == module]
        target, source = _find(own, within, "modules"), _find(theirs, sources, "file")
        named.setdefault(id(target[0]), []).append((target, source))
    made, pairs = list(targets), []
    for rows in named.values():
        layer = rows[0][0][0]
        if len({id(source[0]) for _, source in rows}) == 1 and (rules := layer.shared(rows[0][1][0])):
            pairs.append(Pair(layer, rows[0][1][0], tuple(rules), "name_map"))
            continue
        apart = [_apart(target, source) for target, source in rows]
        kept = {name for (_, name), _ in rows if name is not None}
        rest = _without(layer, kept)
        place = made.index(layer)
        made[place : place + 1] = [*(pair.target for pair in apart), *([rest] if rest.entries else [])]
        pairs += apart
    return made, list(sources), pairs


def _rows(name_map: Mapping[str, Any], modules: set[str]) -> list[tuple[str | None, str, str]]:
    if not isinstance(name_map, Mapping):
        raise InvalidValue(
            f"`name_map` is {as_given(name_map)}; allowed: a mapping from own names to names of the file"
        )
    rows: list[tuple[str | None, str, str]] = []
    for key, value in name_map.items():
        if isinstance(value, Mapping):
            if key not in modules:
                raise InvalidValue(f"`name_map` has rows for the module `{key}`{did_you_mean(str(key), modules)}")
            rows += [(key, _text(own), _text(theirs)) for own, theirs in table(f"name_map[{key}]", value).items()]
        else:
            rows.append((None, _text(key), _text(value)))
    return rows


def _text(name: object) -> str:
    if isinstance(name, str | int):
        return str(name)
    raise InvalidValue(f"`name_map` names {as_given(name)} ({type(name).__name__}); allowed: names, which are text")


def _find(name: str, layers: Sequence[Layer], where: str) -> _Found:
    known: list[str] = []
    for layer in layers:
        if name in (layer.name, layer.path):
            return layer, None
        for entry, path in layer.paths.items():
            short = ".".join(part for part in path.split(".") if part not in COLLECTIONS)
            names = [path, short, *(f"{layer.module}.{each}" for each in (path, short) if layer.module)]
            if name in names:
                return layer, entry
            known.append(names[0])
    raise LoadMismatch(f"`name_map` names `{name}`, which the {where} does not have{did_you_mean(name, known)}")


def _apart(target: _Found, source: _Found) -> Pair:
    """Return a pair of single entries, which are taken as they are."""
    one, other = _single(*target), _single(*source)
    if not one.shared(other):
        raise LoadMismatch(
            f"`name_map` puts `{other.name}` ({other.shapes}) into `{one.name}` ({one.shapes}); their shapes differ"
        )
    return Pair(one, other, (ALONE,), "name_map")


def _single(layer: Layer, entry: str | None) -> Layer:
    if entry is None and len(layer.entries) > 1:
        return layer
    name = next(iter(layer.entries)) if entry is None else entry
    path = ".".join(part for part in (layer.path, name) if part)
    return replace(layer, path=path, entries={"": layer.entries[name]}, paths={"": layer.paths[name]}, rules=(ALONE,))


def _without(layer: Layer, names: set[str]) -> Layer:
    return replace(
        layer,
        entries={name: array for name, array in layer.entries.items() if name not in names},
        paths={name: path for name, path in layer.paths.items() if name not in names},
    )
