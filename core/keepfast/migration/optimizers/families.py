"""The optimizers that both sides have, by what each keeps for a parameter, and what their hyperparameters mean.

Sources: ``torch/optim/*.py`` for the entries of a state and the options of a group; ``optax/_src/transform.py`` and
``alias.py`` for the fields of states and for where an eps, a decay or a rate goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

Slots = frozenset[str]
"""What an optimizer keeps for a parameter, as PyTorch calls it."""

ADAM: Slots = frozenset({"exp_avg", "exp_avg_sq"})
AMSGRAD: Slots = ADAM | {"max_exp_avg_sq"}
MOMENTUM: Slots = frozenset({"momentum_buffer"})
ADAGRAD: Slots = frozenset({"sum"})
RMS: Slots = frozenset({"square_avg"})
CENTERED: Slots = RMS | {"grad_avg"}

FAMILIES: Mapping[Slots, str] = {
    frozenset(): "SGD",
    MOMENTUM: "SGD with momentum",
    ADAM: "Adam",
    AMSGRAD: "Adam with amsgrad",
    ADAGRAD: "Adagrad",
    RMS: "RMSprop",
    RMS | MOMENTUM: "RMSprop with momentum",
    CENTERED: "centered RMSprop",
    CENTERED | MOMENTUM: "centered RMSprop with momentum",
}
"""What is converted, by what it keeps."""

FIELDS: Mapping[frozenset[str], Mapping[str, str]] = {
    frozenset({"count", "mu", "nu"}): {"mu": "exp_avg", "nu": "exp_avg_sq"},
    frozenset({"count", "mu", "nu", "nu_max"}): {
        "mu": "exp_avg",
        "nu": "exp_avg_sq",
        "nu_max": "max_exp_avg_sq",
    },
    frozenset({"nu"}): {"nu": "square_avg"},
    frozenset({"mu", "nu"}): {"mu": "grad_avg", "nu": "square_avg"},
    frozenset({"trace"}): {"trace": "momentum_buffer"},
    frozenset({"sum_of_squares"}): {"sum_of_squares": "sum"},
}
"""The states of optax that keep something for each parameter: by their fields, what PyTorch calls each."""

CLASSES = frozenset(
    {
        *("ScaleByAdamState", "ScaleByAmsgradState", "ScaleByRmsState", "ScaleByRStdDevState"),
        *("TraceState", "ScaleByRssState"),
    }
)
"""The classes of these states; those of others, such as AdaBelief's, have the same fields and mean other things."""


@final
@dataclass(frozen=True)
class Known:
    """A class of PyTorch's optimizers, as the options of its groups tell it.

    Attributes:
        name: the class.
        options: the options that only it has.
    """

    name: str
    options: frozenset[str]


_KNOWN = (
    Known("NAdam", frozenset({"momentum_decay"})),
    Known("Adam", frozenset({"betas", "amsgrad"})),
    Known("RAdam", frozenset({"betas", "decoupled_weight_decay"})),
    Known("Adamax", frozenset({"betas"})),
    Known("RMSprop", frozenset({"alpha", "centered"})),
    Known("Adagrad", frozenset({"lr_decay", "initial_accumulator_value"})),
    Known("SGD", frozenset({"momentum", "dampening", "nesterov"})),
)


def class_of(options: Mapping[str, Any]) -> str:
    """Return what class of PyTorch's optimizers a group is of, by its options; "" where none is known."""
    return next((each.name for each in _KNOWN if each.options <= options.keys()), "")


def slots_of(options: Mapping[str, Any]) -> Slots | None:
    """Return what an optimizer with these options keeps for a parameter; None where it is none of `FAMILIES`."""
    match class_of(options):
        case "Adam":
            return AMSGRAD if options["amsgrad"] else ADAM
        case "RMSprop":
            found = CENTERED if options["centered"] else RMS
            return found | MOMENTUM if options.get("momentum") else found
        case "Adagrad":
            return ADAGRAD
        case "SGD":
            return MOMENTUM if options["momentum"] else frozenset()
    return None


def counts(options: Mapping[str, Any]) -> bool:
    """Say whether such an optimizer of PyTorch keeps a step for each parameter."""
    return class_of(options) != "SGD"


INJECTED: Mapping[str, str] = {
    "learning_rate": "lr",
    "eps": "eps",
    "weight_decay": "weight_decay",
    "momentum": "momentum",
    "decay": "alpha",
}
"""What `optax.inject_hyperparams` keeps of hyperparameters, by what PyTorch calls it; betas are two numbers there."""

_BETAS = ("b1", "b2")


def injected(options: Mapping[str, Any]) -> dict[str, float]:
    """Return the options of a group by the names that optax has for them, as far as both have them as numbers."""
    found = {ours: options[theirs] for ours, theirs in INJECTED.items() if theirs in options}
    found |= dict(zip(_BETAS, options.get("betas", ()), strict=False))
    return {name: float(value) for name, value in found.items() if _is_number(value)}


def options_from(hyperparameters: Mapping[str, float]) -> dict[str, Any]:
    """Return what optax keeps of hyperparameters as options of a group of PyTorch."""
    found: dict[str, Any] = {
        theirs: hyperparameters[ours] for ours, theirs in INJECTED.items() if ours in hyperparameters
    }
    if set(_BETAS) <= hyperparameters.keys():
        found["betas"] = tuple(hyperparameters[name] for name in _BETAS)
    return found


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) or (hasattr(value, "shape") and getattr(value, "size", 0) == 1)
