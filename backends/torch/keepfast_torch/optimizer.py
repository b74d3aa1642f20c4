"""What a file says of an optimizer, held against the optimizer's groups, options and parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from keepfast import Mismatch
from keepfast.plain.numbers import is_number
from keepfast.tree import Tree, describe, is_array, leaves
from keepfast_torch.containers import unlike
from keepfast_torch.uninitialized import is_lazy

_load_plainly = torch.optim.Optimizer.load_state_dict
_PARTS = {"state": "what it keeps for each parameter", "param_groups": "its groups of parameters"}

_TOLERATED_OPTIONS = frozenset(
    {
        # Added to optimizers by one version of PyTorch or another, each with a default.
        "capturable",
        "decoupled_weight_decay",
        "differentiable",
        "foreach",
        "fused",
        "maximize",
        "param_names",
        # Put into the groups by learning-rate schedulers.
        "base_momentum",
        "initial_lr",
        "max_lr",
        "max_momentum",
        "min_lr",
        "swa_lr",
    }
)
"""The options that may be on one side only."""

_ADAM = frozenset({"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"})

_ENTRIES: Mapping[str, frozenset[str]] = {
    "ASGD": frozenset({"step", "eta", "mu", "ax"}),
    "Adadelta": frozenset({"step", "square_avg", "acc_delta"}),
    "Adafactor": frozenset({"step", "row_var", "col_var", "variance"}),
    "Adagrad": frozenset({"step", "sum"}),
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "Adamax": frozenset({"step", "exp_avg", "exp_inf"}),
    "LBFGS": frozenset(
        {
            *("func_evals", "n_iter", "d", "t", "al", "ro", "H_diag"),
            *("old_dirs", "old_stps", "prev_flat_grad", "prev_loss"),
        }
    ),
    "Muon": frozenset({"momentum_buffer"}),
    "NAdam": frozenset({"step", "exp_avg", "exp_avg_sq", "mu_product"}),
    "RAdam": frozenset({"step", "exp_avg", "exp_avg_sq"}),
    "RMSprop": frozenset({"step", "square_avg", "momentum_buffer", "grad_avg"}),
    "Rprop": frozenset({"step", "prev", "step_size"}),
    "SGD": frozenset({"momentum_buffer"}),
    "SparseAdam": frozenset({"step", "exp_avg", "exp_avg_sq"}),
}
"""What each optimizer of `torch.optim` keeps for a parameter, with whatever options."""

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


def loads_plainly(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether an optimizer loads a state as PyTorch's own do: tensors of the state take the place of those it has.

    None of those that it has is written to then. What others make of it, by classes or hooks of theirs, nobody knows.
    """
    kind, own = type(optimizer), vars(optimizer)
    hooked = own.get("_optimizer_load_state_dict_pre_hooks") or own.get("_optimizer_load_state_dict_post_hooks")
    is_of_torch = all(f"{each.__module__}.".startswith("torch.optim.") for each in kind.__mro__[:-1])
    is_plain = kind.load_state_dict is _load_plainly and own.keys().isdisjoint({"load_state_dict", "__setstate__"})
    return is_of_torch and is_plain and not hooked


def mismatches(optimizer: torch.optim.Optimizer, state: Tree) -> list[Mismatch]:
    """Return in what way a state does not fit an optimizer; nothing if it fits.

    Args:
        optimizer: decides the groups, the options and the shapes.
        state: what ``state_dict`` gives, with arrays of any framework; or anything else.
    """
    if found := [*_malformed(state)]:
        return found
    own, saved = optimizer.param_groups, state["param_groups"]
    if len(own) != len(saved):
        return [
            Mismatch("param_groups", "shape", f"{len(own)} group(s)", f"{len(saved)} group(s); {_advice(own, saved)}")
        ]
    found = [
        mismatch
        for number, pair in enumerate(zip(own, saved, strict=True))
        for mismatch in (*_sizes(f"param_groups.{number}", *pair), *_options(optimizer, number, *pair))
    ]
    if any(mismatch.status == "shape" for mismatch in found):  # whose state is whose is not known
        return found
    return [*found, *_entries(optimizer, state)]


def is_malformed(state: Tree) -> bool:
    """Say whether a state is no optimizer's at all."""
    return next(_malformed(state), None) is not None


def _malformed(state: Tree) -> Iterator[Mismatch]:
    """Yield in what way a state is no optimizer's at all."""
    if not isinstance(state, Mapping):
        yield Mismatch("", "kind", "a dict of `state` and `param_groups`", describe(state))
        return
    absent = _PARTS.keys() - state.keys()
    yield from (Mismatch(part, "missing", expected=_PARTS[part]) for part in sorted(absent))
    if absent:
        others = {key: child for key, child in state.items() if key not in _PARTS}
        yield from (Mismatch(path, "extra", found=describe(leaf)) for path, leaf in leaves(others))
        return
    if not isinstance(state["state"], Mapping):
        yield Mismatch("state", "kind", "a dict", describe(state["state"]))
    if not isinstance(groups := state["param_groups"], list | tuple):
        yield Mismatch("param_groups", "kind", "a list", describe(groups))
        return
    for number, group in enumerate(groups):
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), list | tuple):
            yield Mismatch(f"param_groups.{number}", "kind", "a dict with a list `params`", describe(group))


def _advice(own: Sequence[Any], saved: Sequence[Any]) -> str:
    """Return what to do where one side has more groups, as after an `add_param_group` in mid-training."""
    if len(own) < len(saved):
        return "add the same groups to this optimizer, by `add_param_group` as that training did, and load then"
    return "load before the groups that the file lacks are added by `add_param_group`, or leave the optimizer out"


def _sizes(path: str, own: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[Mismatch]:
    ours, theirs = len(own["params"]), len(saved["params"])
    if ours != theirs:
        yield Mismatch(f"{path}.params", "shape", f"{ours} parameter(s)", f"{theirs} parameter(s)")


def _options(
    optimizer: torch.optim.Optimizer, number: int, own: Mapping[str, Any], saved: Mapping[str, Any]
) -> Iterator[Mismatch]:
    """Yield the options that one side has and the other lacks, by which an optimizer of another kind shows."""
    # PyTorch's own have all their options from the start; others may add some when they step.
    needed = own if _is_of_torch(optimizer) else own.keys() & optimizer.defaults.keys()
    for name in own:
        if name in needed and name not in saved and name not in _TOLERATED_OPTIONS:
            yield Mismatch(f"param_groups.{number}.{name}", "missing", expected=describe(own[name]))
    for name in own.keys() & saved.keys() - {"params", "param_names"}:
        path = f"param_groups.{number}.{name}"
        if saved[name] is None and is_number(own[name]) and not isinstance(own[name], bool):
            yield Mismatch(path, "kind", describe(own[name]), describe(None))
        yield from unlike(path, own[name], saved[name])
    for name in saved if _is_of_torch(optimizer) else ():
        if name not in own and name not in _TOLERATED_OPTIONS:
            yield Mismatch(f"param_groups.{number}.{name}", "extra", found=describe(saved[name]))


def _is_of_torch(optimizer: torch.optim.Optimizer) -> bool:
    return type(optimizer).__name__ in _ENTRIES and type(optimizer).__module__.startswith("torch.optim")


def _entries(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Iterator[Mismatch]:
    """Yield what the state keeps for a parameter and the optimizer does not, or in another shape."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        kept = state["state"].get(number, {})
        for name, entry in kept.items() if isinstance(kept, Mapping) else ():
            if not _keeps(optimizer, name):
                yield Mismatch(f"state.{number}.{name}", "extra", found=describe(entry))
            elif name in _SHAPED_AS_PARAMETER and entry is not None:
                if not is_array(entry):
                    yield Mismatch(f"state.{number}.{name}", "kind", describe(parameter), describe(entry))
                elif not is_lazy(parameter) and tuple(entry.shape) != tuple(parameter.shape):
                    yield Mismatch(f"state.{number}.{name}", "shape", describe(parameter), describe(entry))
            elif name == "step" and not is_number(entry):
                yield Mismatch(f"state.{number}.{name}", "kind", "a number", describe(entry))


def _keeps(optimizer: torch.optim.Optimizer, name: str) -> bool:
    """Say whether an optimizer may keep an entry of that name for a parameter."""
    if _is_of_torch(optimizer):  # what none of today's keeps, a later version may
        return name in _ENTRIES[type(optimizer).__name__] or not any(name in names for names in _ENTRIES.values())
    kept = [entries for entries in optimizer.state.values() if isinstance(entries, Mapping)]
    return not kept or any(name in entries for entries in kept)
