"""What is told of hyperparameters: those that mean something else on the other side, and those that no state has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from keepfast.migration.optimizers.families import ADAGRAD, MOMENTUM, RMS, class_of
from keepfast.migration.optimizers.kept import Kept

_TAKEN = (
    *("lr", "betas", "eps", "weight_decay", "momentum", "dampening", "nesterov", "alpha"),
    *("lr_decay", "maximize", "initial_lr", "momentum_decay"),
)
"""The options that a group of PyTorch takes from a file, as its own `load_state_dict` does."""


_ROUNDING = 1e-6


@final
@dataclass
class Told:
    """What there is to tell.

    Attributes:
        notes: what became of it.
        warnings: what may be otherwise than before.
    """

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, warnings: Sequence[str]) -> None:
        """Add warnings."""
        self.warnings += warnings


def differing(name: str, own: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], Told]:
    """Return the options that a group of PyTorch takes from a file, and what there is to tell of them.

    Args:
        name: the optimizer's name.
        own: the group's options.
        found: the file's, of each parameter of the group.
    """
    taken: dict[str, Any] = {}
    told = Told()
    decoupled = {each["decoupled_weight_decay"] for each in found if "decoupled_weight_decay" in each}
    for option in _TAKEN:
        values = [each[option] for each in found if option in each]
        if option not in own or not values or len(values) < len(found):
            continue
        if option == "weight_decay" and decoupled - {own.get("decoupled_weight_decay", False)}:
            told.warnings.append(
                f"{name}: Adam's `weight_decay` is added to the gradient and AdamW's is not; it keeps its own"
            )
        elif any(not _same(value, values[0]) for value in values):
            told.warnings.append(
                f"{name}: the file has several `{option}` for the parameters of a group; it keeps its own"
            )
        elif not _same(values[0], own[option]):
            taken[option] = values[0]
            told.notes.append(f"{name}: `{option}` became {_text(values[0])}, as the file has it")
    return taken, told


def _same(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or "f" not in (one.dtype.kind, other.dtype.kind):
        return bool(np.array_equal(one, other))
    return bool(np.allclose(one, other, rtol=_ROUNDING, atol=0))  # one side may have it in float32


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value))})"
    return str(value) if isinstance(value, bool) else f"{float(np.asarray(value)):g}"


def crossing(
    name: str,
    kept: Sequence[Kept],
    groups: Sequence[Mapping[str, Any]],
    *,
    to_torch: bool,
    held: set[str] | frozenset[str] = frozenset(),
) -> list[str]:
    """Return a warning for each hyperparameter that means something else on the other side, or stands in no state.

    Args:
        name: the optimizer's name.
        kept: what the file keeps for each of its parameters.
        groups: its own groups, where it is of PyTorch.
        to_torch: whether it is.
        held: the hyperparameters that its state has, where it is of optax.
    """
    active = [each for each in kept if each.slots]
    if not active or active[0].torch is to_torch:
        return []
    options: list[Mapping[str, Any]] = list(groups) if to_torch else [each.options for each in active]
    slots = frozenset(active[0].slots)
    lines = [*_of_family(slots, options), *_missing(active, options, to_torch=to_torch, held=held)]
    return [f"{name}: {line}" for line in dict.fromkeys(lines)]


def _missing(
    active: Sequence[Kept], options: Sequence[Mapping[str, Any]], *, to_torch: bool, held: set[str] | frozenset[str]
) -> list[str]:
    """Return what is told of hyperparameters that stand in no state."""
    if to_torch:
        if any("lr" not in each.options for each in active):
            rates = ", ".join(dict.fromkeys(_text(each["lr"]) for each in options))
            return [f"a state of optax does not hold the rate; `lr` stays {rates}, as the optimizer has it"]
        return []
    calls = list(dict.fromkeys(optax_call(each) for each in options))
    if "learning_rate" in held or not calls:
        return []
    if len(calls) > 1:
        return [
            "the file's groups differ; a transformation for each, in `optax.multi_transform`, does the same: "
            + ", ".join(f"`{call}`" for call in calls)
        ]
    return [f"a state of optax does not hold its hyperparameters; the file's optimizer is `{calls[0]}`"]


def _of_family(slots: frozenset[str], options: Sequence[Mapping[str, Any]]) -> list[str]:
    decayed = any(float(each.get("weight_decay", 0) or 0) for each in options)
    lines: list[str] = []
    if slots >= {"exp_avg"}:
        lines.append("optax adds `eps_root`, 0 unless told otherwise, within the root; PyTorch has nothing of the kind")
        lines += _of_decay(options) if decayed else []
    if slots == MOMENTUM:
        lines += _of_momentum(options)
    if slots >= RMS:
        lines += _OF_RMSPROP
        lines += _OF_TRACE if slots >= MOMENTUM else []
    if slots == ADAGRAD:
        lines += _OF_ADAGRAD
        if any(float(each.get("lr_decay", 0)) for each in options):
            lines.append("PyTorch's `lr_decay` lowers the rate by the step, which optax does by a schedule alone")
    if decayed and not slots >= {"exp_avg"}:
        lines.append(_DECAY)
    if any(each.get("maximize") for each in options):
        lines.append("`maximize` of PyTorch is a negative rate in optax")
    return lines


_DECAY = "`weight_decay` is added to the gradient: `optax.add_decayed_weights` in front of the transformation does that"

_OF_RMSPROP = [
    "`decay` of optax.rmsprop is PyTorch's `alpha`; it is 0.9 there and 0.99 in PyTorch unless told otherwise",
    "`eps` is within the root in optax.rmsprop unless `eps_in_sqrt=False`, and outside of it in PyTorch",
    "`initial_scale` of optax.rmsprop is where averages begin, 0 as in PyTorch unless told otherwise",
]

_OF_TRACE = ["the momentum of optax.rmsprop has the rate in it already and PyTorch's has not: they agree at one rate"]

_OF_ADAGRAD = [
    "`eps` is within the root in optax.adagrad (1e-07), and outside of it in PyTorch (1e-10)",
    "`initial_accumulator_value` is 0.1 in optax.adagrad and 0 in PyTorch unless told otherwise; sums have it in them",
]


def _of_decay(options: Sequence[Mapping[str, Any]]) -> list[str]:
    if any(each.get("decoupled_weight_decay") for each in options):
        return [
            "AdamW multiplies `weight_decay` with the rate on both sides; by default 0.01 in PyTorch, 1e-4 in optax"
        ]
    return [_DECAY]


def _of_momentum(options: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {float(each.get("dampening", 0)) for each in options}
    return [
        f"optax has no `dampening`: `optax.scale({1 - each:g})` in front of `optax.trace` does the same"
        for each in sorted(found)
        if each
    ]


def optax_call(options: Mapping[str, Any]) -> str:
    """Return how optax makes the optimizer that a group of PyTorch is of."""
    told = {option: options[option] for option in options if option in _TAKEN}
    rate = _text(told.get("lr", 0))
    eps = f", eps={_text(told['eps'])}" if "eps" in told else ""
    betas = told.get("betas", (0.9, 0.999))
    adam = f"b1={_text(betas[0])}, b2={_text(betas[1])}{eps}"
    match class_of(options):
        case "Adam" if options.get("decoupled_weight_decay"):
            return f"optax.adamw({rate}, {adam}, weight_decay={_text(told['weight_decay'])})"
        case "Adam":
            return f"optax.{'amsgrad' if options['amsgrad'] else 'adam'}({rate}, {adam})"
        case "RMSprop":
            momentum = f", momentum={_text(told['momentum'])}" if told.get("momentum") else ""
            centered = ", centered=True" if options["centered"] else ""
            return f"optax.rmsprop({rate}, decay={_text(told['alpha'])}{eps}, eps_in_sqrt=False{centered}{momentum})"
        case "Adagrad":
            return f"optax.adagrad({rate}, initial_accumulator_value=0.0{eps})"
    nesterov = ", nesterov=True" if told.get("nesterov") else ""
    momentum = f", momentum={_text(told['momentum'])}{nesterov}" if told.get("momentum") else ""
    return f"optax.sgd({rate}{momentum})"
