"""From pairs of layers to values for a module's entries: kinds settled, arrays laid out anew, inputs reordered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from keepfast.migration.layers import Layer
from keepfast.migration.layouts import Array, NoPlaceError, Rule, reordered
from keepfast.migration.mapping import Pair
from keepfast.migration.report import MigratedEntry
from keepfast.migration.roles import is_logarithm, words
from keepfast.migration.rules.settings import Settings

_TRANSPOSED = frozenset({"transpose", "transposed", "deconv", "upconv", "convtranspose", "up", "upsample", "decoder"})


@final
@dataclass(frozen=True)
class Converted:
    """What one pair of layers came to.

    Attributes:
        pair: the two layers.
        rule: the kind of layer they are; None where that is in doubt.
        values: the new value of each of the module's entries, by its whole path within the module.
        entries: the report on each of them.
        notes: what there is to tell.
        hints: where the kind is in doubt, how to say it.
        channels: of the convolution before a flatten that stands right before them.
        is_changed: whether the numbers themselves are others: logarithms, say.
    """

    pair: Pair
    rule: Rule | None
    values: Mapping[str, Array]
    entries: tuple[MigratedEntry, ...]
    notes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    channels: int | None = None
    is_changed: bool = False


def settled(pair: Pair, kinds: Mapping[str, str], settings: Mapping[str, Settings]) -> list[Rule]:
    """Return the kinds that a pair of layers can still be once everything that tells was asked.

    Args:
        pair: the two layers.
        kinds: by the name of a layer, the kind that the caller says it is.
        settings: what the backends tell of the layers of live modules.
    """
    rules = list(pair.rules)
    if len(rules) < 2:
        return rules
    for layer in (pair.target, pair.source):
        told = kinds.get(layer.name) or kinds.get(layer.path)
        told = told or settings.get(layer.module, {}).get(layer.path, {}).get("kind", "")
        if exact := [rule for rule in rules if _is(rule, str(told))]:
            return exact[:1]
    named = [rule for rule in rules if _is_named(rule, pair)]
    return _different(pair, named or rules)


def _is(rule: Rule, told: str) -> bool:
    return rule.kind == told or (rule.kind == "Norm" and told in ("LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm"))


def _is_named(rule: Rule, pair: Pair) -> bool:
    """Say whether a layer's name tells that it is of a kind: a convolution, a transposed one, a bilinear layer."""
    told = {word for layer in (pair.target, pair.source) for word in words(layer.path)}
    if "bilinear" in told:
        return rule.kind == "Bilinear"
    if told & _TRANSPOSED and any("conv" in word for word in told):
        return rule.kind.startswith("ConvTranspose")
    return any(word.startswith(("conv", "cnn")) for word in told) and re.fullmatch(r"Conv\dd", rule.kind) is not None


def _different(pair: Pair, rules: Sequence[Rule]) -> list[Rule]:
    """Return of several kinds those that lead to different values."""
    kept: list[Rule] = []
    seen: list[dict[str, bytes]] = []
    for rule in rules:
        made, _ = _laid_out(pair, rule, None)
        values = {name: np.ascontiguousarray(array).tobytes() for name, array in made.items()}
        if values not in seen:
            seen.append(values)
            kept.append(rule)
    return kept


def _laid_out(pair: Pair, rule: Rule, channels: int | None) -> tuple[dict[str, Array], list[str]]:
    source, target = pair.source, pair.target
    if source.side == target.side and source.entries.keys() == target.entries.keys() and rule.kind != "Parameter":
        return dict(source.entries), []
    canonical = rule.canonical(source.side, source.entries)
    if channels is not None:
        canonical = reordered(canonical, channels, target.side)
    return rule.entries(target.side, canonical, target.entries)


def flattened(pairs: Sequence[tuple[Pair, Rule]]) -> dict[int, int]:
    """Return which pairs, by the place in the list, stand right behind a flatten, with the channels before it.

    Only where the two sides flatten otherwise. Whether a flatten stands between a convolution and a dense layer is told
    by their sizes: the dense layer has more inputs than the convolution has channels, and a multiple of them.
    """
    found: dict[int, int] = {}
    ordered = [(number, *each) for number, each in enumerate(pairs) if each[0].source.side != each[0].target.side]
    ordered.sort(key=lambda each: (_torch(each[1]).module, _torch(each[1]).order))
    state = _Flatten()
    for number, pair, rule in ordered:
        if _torch(pair).module != state.module:
            state = _Flatten(_torch(pair).module)
        channels = state.next(rule, rule.canonical(_torch(pair).side, _torch(pair).entries))
        if channels is not None:
            found[number] = channels
    return found


def _torch(pair: Pair) -> Layer:
    return pair.source if pair.source.side == "torch" else pair.target


@final
@dataclass
class _Flatten:
    """Follows the layers of a network of PyTorch in their order."""

    module: str = ""
    channels: int = 0
    inputs: int = 0
    before: int = 0

    def next(self, rule: Rule, canonical: Mapping[str, Array]) -> int | None:
        """Return the channels before a flatten where this layer stands behind one, else None."""
        weight = canonical.get("weight")
        if weight is None:
            return None
        if rule.kind.startswith("Conv"):
            self.channels, self.inputs = weight.shape[1 if "Transpose" in rule.kind else 0], 0
            return None
        if rule.kind in ("Norm", "BatchNorm"):
            return self.channels if not self.inputs and self._is_flat(weight.shape[0]) else None
        if rule.kind != "Linear" or not self.channels:
            return None
        size, before = weight.shape[1], self.before
        self.before = weight.shape[0]
        if not self.inputs and size == self.channels:
            self.channels = 0  # pooled: there was nothing to flatten
        elif not self.inputs and self._is_flat(size):
            self.inputs = size
            return self.channels
        elif size == self.inputs and size != before:
            return self.channels  # a second head on the same flatten
        return None

    def _is_flat(self, size: int) -> bool:
        return self.channels > 1 and size > self.channels and size % self.channels == 0


def converted(pair: Pair, rule: Rule, channels: int | None, logarithms: frozenset[str]) -> Converted:
    """Return the values of a pair of layers, laid out as the module has them.

    Args:
        pair: the two layers.
        rule: what they are.
        channels: of the convolution before a flatten that stands right before them.
        logarithms: the file's lone parameters that are logarithms, whatever their names say.
    """
    target = pair.target
    try:
        made, notes = _laid_out(pair, rule, channels)
        values = {name: _cast(array, target.entries[name], notes) for name, array in made.items()}
        values = {name: array for name, array in values.items() if name in target.entries}
        kept = values
        values, why = _in_logarithms(pair, values, logarithms)
    except NoPlaceError as error:
        entries = [_entry(pair, name, "refused", rule, str(error)) for name in target.entries]
        return Converted(pair, rule, {}, tuple(entries))
    if channels is not None:
        notes.append(f"its inputs were put into the other order of a flatten behind {channels} channels")
    entries = [_entry(pair, name, "migrated" if name in values else "kept", rule, why) for name in target.entries]
    told = tuple(f"{target.name}: {note}" for note in notes)
    placed = {target.paths[name]: array for name, array in values.items()}
    return Converted(pair, rule, placed, tuple(entries), told, channels=channels, is_changed=values is not kept)


def laid_out_pair(pair: Pair, rule: Rule, channels: int | None) -> dict[str, Any]:
    """Return the entries of a pair's source as its target has them.

    Raises:
        NoPlaceError: if something has no place there.
    """
    return _laid_out(pair, rule, channels)[0]


def _in_logarithms(pair: Pair, values: dict[str, Array], logarithms: frozenset[str]) -> tuple[dict[str, Array], str]:
    """Return a deviation as its logarithm, or the reverse, where the two sides keep another of both."""
    ours, theirs = is_logarithm(pair.target), is_logarithm(pair.source)
    theirs = True if pair.source.name in logarithms else theirs
    if set(values) != {""} or ours is None or theirs is None or ours is theirs:
        return values, pair.why
    if ours and np.any(values[""] <= 0):
        raise NoPlaceError("it is a deviation that is not positive, which has no logarithm")
    changed = np.log(values[""]) if ours else np.exp(values[""])
    return {"": changed}, f"{pair.why}; {'the logarithm of' if ours else 'the exponential of'} what the file has"


def _cast(array: Array, own: Array, notes: list[str]) -> Array:
    if array.dtype == own.dtype:
        return array
    with np.errstate(all="ignore"):  # what overflows is found by comparing
        made = array.astype(own.dtype)
    if own.dtype.kind in "iub" and np.any(made != array):
        raise NoPlaceError(f"the module has {own.dtype} there, which cannot hold what the file has")
    if array.dtype.itemsize > own.dtype.itemsize and own.dtype.kind == "f":
        notes.append(f"{array.dtype} became {own.dtype}")
    return made


_PARTNERS = {"kernel": "weight", "scale": "weight", "embedding": "weight", "negative_slope": "weight"}
_PARTNERS |= {"mean": "running_mean", "var": "running_var"}


def _entry(pair: Pair, name: str, status: Any, rule: Rule, why: str) -> MigratedEntry:
    source, target = pair.source, pair.target
    same = [other for other in source.entries if _PARTNERS.get(other, other) == _PARTNERS.get(name, name)]
    used = same or list(source.entries)
    names = tuple(".".join(part for part in (source.module, source.paths[other]) if part) for other in used)
    shape = tuple(target.entries[name].shape)
    return MigratedEntry(
        target.module, target.paths[name], status, shape, names if status != "kept" else (), rule.kind, why
    )
