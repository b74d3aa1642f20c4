"""States for the other framework's optimizers, still empty, where no such optimizer is at hand to take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keepfast.interfaces.checkpoint_reader import Side
from keepfast.migration.optimizers.carrying import OptimizerPlace
from keepfast.migration.optimizers.families import ADAGRAD, AMSGRAD, MOMENTUM, RMS
from keepfast.migration.optimizers.kept import Kept
from keepfast.migration.optimizers.ownership import NotKnownError, Parameter
from keepfast.tree import Tree

_COMMON = {"weight_decay": 0, "maximize": False, "differentiable": False, "foreach": None}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Adam": {
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "amsgrad": False,
        "capturable": False,
        "fused": None,
        "decoupled_weight_decay": False,
    },
    "SGD": {"momentum": 0.9, "dampening": 0, "nesterov": False, "fused": None},
    "RMSprop": {"alpha": 0.99, "eps": 1e-8, "momentum": 0, "centered": False, "capturable": False},
    "Adagrad": {"lr_decay": 0, "eps": 1e-10, "initial_accumulator_value": 0, "fused": None},
}
"""The options of a group that are not told, as the classes of PyTorch have them."""


def place_for(name: str, kept: Mapping[str, Kept], targets: Sequence[Parameter], side: Side) -> OptimizerPlace:
    """Return an empty state that takes what an optimizer of the file keeps.

    Args:
        name: the optimizer's name.
        kept: what it keeps for each parameter.
        targets: the parameters that it is to keep that for, in their order.
        side: the framework that the state is for.

    Raises:
        NotKnownError: if the file does not tell the rate, without which there is none of PyTorch.
    """
    active = next((each for each in kept.values() if each.slots), None)
    if active is None:
        raise NotKnownError("it keeps nothing yet")
    slots = frozenset(active.slots)
    tree = _of_optax(slots, targets, active) if side == "flax" else _of_torch(slots, targets, active)
    return OptimizerPlace(name, "", tree, told=name, whole=tree)


def _of_optax(slots: frozenset[str], targets: Sequence[Parameter], kept: Kept) -> Tree:
    """Return the state that `optax.adam` and its kin begin with."""

    def zeros() -> Tree:
        return _nested(targets, several=len({parameter.layer.module for parameter in targets}) > 1)

    count = np.zeros((), np.int32)
    if slots == MOMENTUM:
        return ({"trace": zeros()}, {})
    if slots == ADAGRAD:
        return ({"sum_of_squares": zeros()}, {})
    if slots >= RMS:
        first = {"mu": zeros(), "nu": zeros()} if "grad_avg" in slots else {"nu": zeros()}
        return (first, {}, {"trace": zeros()} if slots >= MOMENTUM else {})
    adam = {"count": count, "mu": zeros(), "nu": zeros()}
    if slots == AMSGRAD:
        adam["nu_max"] = zeros()
    return (adam, {}, {}) if kept.options.get("decoupled_weight_decay") else (adam, {})


def _nested(targets: Sequence[Parameter], *, several: bool) -> Tree:
    made: dict[str, Any] = {}
    for parameter in targets:
        path = parameter.layer.paths[parameter.entry]
        *parents, last = [*([parameter.layer.module] if several else []), *path.split(".")]
        node = made
        for part in parents:
            node = node.setdefault(part, {})
        array = parameter.layer.entries[parameter.entry]
        node[last] = np.zeros(array.shape, array.dtype)
    return made


def _of_torch(slots: frozenset[str], targets: Sequence[Parameter], kept: Kept) -> Tree:
    """Return the state that an optimizer of PyTorch has before its first step, with the hyperparameters of the file."""
    if "lr" not in kept.options:
        raise NotKnownError(
            "a state of optax does not hold the rate and PyTorch's does (`optax.inject_hyperparams` keeps it); give a "
            "checkpoint with such an optimizer, `--like`, or migrate into the optimizer itself"
        )
    options = dict(kept.options)
    name = "Adagrad" if slots == ADAGRAD else "RMSprop" if slots >= RMS else "SGD" if slots == MOMENTUM else "Adam"
    made = {**_COMMON, **_DEFAULTS[name]}
    if name == "Adam":
        made |= {"amsgrad": slots == AMSGRAD, "decoupled_weight_decay": "weight_decay" in options}
    if name == "RMSprop":
        made |= {"centered": "grad_avg" in slots, "momentum": 0.9 if slots >= MOMENTUM else 0}
    group = {**made, **{option: value for option, value in options.items() if option in made or option == "lr"}}
    group["params"] = list(range(len(targets)))
    group["param_names"] = [parameter.name for parameter in targets]
    return {"state": {}, "param_groups": [group]}
