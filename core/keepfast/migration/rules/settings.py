"""Settings that no file holds, and that differ between the frameworks: where they may matter, it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keepfast.interfaces.checkpoint_reader import Side
from keepfast.migration.layouts import Rule
from keepfast.migration.mapping import Pair

Settings = Mapping[str, Mapping[str, Any]]
"""By the path of a layer: its kind and its settings, in PyTorch's words; see `Backend.settings`."""

_NAMES = {"torch": "PyTorch", "flax": "Flax"}

_DEFAULTS: dict[Side, dict[str, dict[str, float]]] = {
    "torch": {
        "LayerNorm": {"eps": 1e-5},
        "GroupNorm": {"eps": 1e-5},
        "RMSNorm": {"eps": 1.1920929e-07},
        "BatchNorm": {"eps": 1e-5, "momentum": 0.1},
    },
    "flax": {
        "LayerNorm": {"eps": 1e-6},
        "GroupNorm": {"eps": 1e-6},
        "RMSNorm": {"eps": 1e-6},
        "BatchNorm": {"eps": 1e-5, "momentum": 0.01},
    },
}
"""What a layer has unless told otherwise; the momentum is the weight of a new batch, as PyTorch means it."""

_KINDS = {"Norm": "LayerNorm", "BatchNorm": "BatchNorm"}


def setting_warnings(pairs: Sequence[tuple[Pair, Rule]], settings: Mapping[str, Settings]) -> list[str]:
    """Return a warning for each setting that is, or may be, another than where the file comes from.

    Args:
        pairs: what was migrated, each with the kind of layer that it is.
        settings: by the name of a module, what its backend tells of its layers.
    """
    found: list[str] = []
    for pair, rule in pairs:
        if pair.source.side != pair.target.side and rule.kind in _KINDS:
            told = settings.get(pair.target.module, {}).get(pair.target.path, {})
            found += _of_layer(pair, _kind(told.get("kind", ""), rule), told)
    if pairs and pairs[0][0].source.side != pairs[0][0].target.side:
        found += _of_activations(pairs[0][0], settings)
    return found


def _kind(told: str, rule: Rule) -> str:
    return next((kind for kind in _DEFAULTS["torch"] if told.startswith(kind)), _KINDS[rule.kind])


def _of_layer(pair: Pair, kind: str, told: Mapping[str, Any]) -> Iterator[str]:
    source, target = pair.source.side, pair.target.side
    for name, usual in _DEFAULTS[source][kind].items():
        own = told.get(name)
        if own is None and usual != _DEFAULTS[target][kind][name]:
            yield (
                f"{pair.target.name}: `{name}` of a {kind} is {usual:g} in {_NAMES[source]} and "
                f"{_DEFAULTS[target][kind][name]:g} in {_NAMES[target]} unless told otherwise; {_advice(name)}"
            )
        elif own is not None and abs(own - usual) > 1e-3 * usual:
            yield (
                f"{pair.target.name}: `{name}` is {own:g} in the module, and {usual:g} in {_NAMES[source]} "
                f"unless told otherwise; {_advice(name)}"
            )


def _advice(name: str) -> str:
    if name == "momentum":
        return "running statistics will go on otherwise (Flax's `momentum` is 1 minus PyTorch's)"
    return "outputs differ where it is not the same"


def _of_activations(pair: Pair, settings: Mapping[str, Settings]) -> Iterator[str]:
    for module, layers in settings.items():
        for path, told in layers.items():
            approximate, source = told.get("approximate"), pair.source.side
            if told.get("kind") == "gelu" and approximate is not None and approximate is (source == "torch"):
                yield (
                    f"{'.'.join(part for part in (module, path) if part)}: this gelu is "
                    f"{'approximate' if approximate else 'exact'}, and {_NAMES[source]}'s is "
                    f"{'exact' if approximate else 'approximate'} unless told otherwise; outputs differ by up to 5e-4"
                )
