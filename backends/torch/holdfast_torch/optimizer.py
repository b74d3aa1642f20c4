"""What a file says of an optimizer, held against the parameters that the optimizer has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from holdfast.tree import Tree, is_array

_SHAPED_AS_PARAMETER = frozenset(
    {
        "acc_delta",  # Adadelta
        "ax",  # ASGD
        "exp_avg",  # Adam and its kin
        "exp_avg_sq",
        "exp_inf",  # Adamax
        "grad_avg",  # RMSprop
        "max_exp_avg_sq",  # AMSGrad
        "momentum_buffer",  # SGD, Muon
        "prev",  # Rprop
        "square_avg",  # Adadelta, RMSprop
        "step_size",  # Rprop
        "sum",  # Adagrad
    }
)
"""The entries that `torch.optim` keeps once for each number of a parameter; others have shapes of their own."""


def differences(optimizer: torch.optim.Optimizer, state: Tree) -> list[str]:
    """Return in what way a state does not fit an optimizer, each with its path and both sides; nothing if it fits.

    Args:
        optimizer: decides the groups and the shapes.
        state: what ``state_dict`` gives, with arrays of any framework.
    """
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        keys = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        return [f"an optimizer's state has `state` and `param_groups`, the file has {keys or 'nothing'}"]
    own, saved = optimizer.param_groups, state["param_groups"]
    if len(own) != len(saved):
        return [f"param_groups: the optimizer has {len(own)} group(s), the file has {len(saved)}"]
    sizes = [
        f"param_groups.{number}.params: the optimizer has {len(ours['params'])} parameter(s), "
        f"the file has {len(theirs['params'])}"
        for number, (ours, theirs) in enumerate(zip(own, saved, strict=True))
        if len(ours["params"]) != len(theirs["params"])
    ]
    return sizes or _shape_differences(optimizer, state)


def _shape_differences(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> list[str]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    return [
        f"state.{number}.{name}: the parameter has the shape {tuple(parameter.shape)}, "
        f"the file has {tuple(entry.shape)}"
        for number, parameter in zip(numbers, parameters, strict=True)
        for name, entry in state["state"].get(number, {}).items()
        if name in _SHAPED_AS_PARAMETER and is_array(entry) and tuple(entry.shape) != tuple(parameter.shape)
    ]
