"""The order of an optimizer's parameters: by their names, where the optimizer and the file both know them.

PyTorch numbers the parameters of an optimizer by their order and its state by these numbers, so that the state of one
built in another order goes to other parameters of the same shapes. Their names come from the optimizer itself, where it
was given ``named_parameters()``, or from the modules that are registered beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from keepfast import Mismatch
from keepfast.modules.comparing.naming import sources
from keepfast.tree import Tree
from keepfast_torch.wrappers import named_parameters

Names = Sequence[Sequence[str | None]]
"""The names of the parameters of each group; None for one that has none."""


def names_of(optimizer: torch.optim.Optimizer, beside: Mapping[str, Any]) -> Names | None:
    """Return by what names the modules beside an optimizer have its parameters, or None where they have none of them.

    Args:
        optimizer: the optimizer.
        beside: the modules, and tensors, that are registered with it, by name.
    """
    named = named_parameters(beside)
    names = [[named.get(id(parameter)) for parameter in group["params"]] for group in optimizer.param_groups]
    return names if any(name is not None for group in names for name in group) else None


def aligned(
    optimizer: torch.optim.Optimizer, state: Tree, names: Names | None, saved: Names | None
) -> tuple[Tree, list[Mismatch]]:
    """Return a file's state with its groups and parameters in the order of an optimizer, and what does not fit.

    Args:
        optimizer: decides the order.
        state: what ``state_dict`` gives, of well-formed groups.
        names: the names that the modules beside the optimizer have for its parameters.
        saved: those that the file has for its own.
    """
    own_groups, groups = optimizer.param_groups, state["param_groups"]
    own_names, found_names = (_own(own_groups), _own(groups))
    by_itself = own_names is not None and found_names is not None
    if not by_itself:
        own_names, found_names = _fitting(names, own_groups), _fitting(saved, groups)
    if own_names is None or found_names is None:
        return state, []
    places = _places(own_names, found_names)
    if places is None:
        told = [_told(own_names, found_names)] if by_itself or _overlap(own_names, found_names) else []
        return state, told
    ordered = [_ordered(group, groups, places) for group in own_names]
    if any(group is None for group in ordered) or len(groups) != len(own_groups):
        return state, [_told(own_names, found_names)]
    return _renumbered({**state, "param_groups": ordered}), []


def _renumbered(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state whose parameters are numbered in their order, as an optimizer numbers its own."""
    groups, entries = state["param_groups"], state["state"]
    at = {number: place for place, number in enumerate(number for group in groups for number in group["params"])}
    return {
        **state,
        "state": {at.get(number, number): entry for number, entry in entries.items()},
        "param_groups": [{**group, "params": [at[number] for number in group["params"]]} for group in groups],
    }


def _own(groups: Sequence[Mapping[str, Any]]) -> list[list[str]] | None:
    """Return the names that the groups themselves have, or None where one has none."""
    names = [group.get("param_names") for group in groups]
    fitting = all(
        isinstance(each, list | tuple) and len(each) == len(group["params"])
        for each, group in zip(names, groups, strict=True)
    )
    return [list(each or ()) for each in names] if fitting else None


def _fitting(names: Names | None, groups: Sequence[Mapping[str, Any]]) -> list[list[str]] | None:
    """Return names with one for each parameter of groups, or None where they are others' names."""
    if names is None or [len(each) for each in names] != [len(group["params"]) for group in groups]:
        return None
    unnamed = iter(range(sum(map(len, names))))
    return [[f"\0{next(unnamed)}" if name is None else name for name in group] for group in names]


def _places(own: list[list[str]], found: list[list[str]]) -> dict[str, tuple[int, int]] | None:
    """Return the group and the place that the file has each own name at, or None where the names are not the same."""
    places = {name: (number, place) for number, group in enumerate(found) for place, name in enumerate(group)}
    flat = [name for group in own for name in group]
    if len(set(flat)) != len(flat) or len(places) != sum(map(len, found)) or len(flat) != len(places):
        return None
    at, _ = sources(flat, {name: name for name in places})
    if len(set(at.values())) != len(flat):
        at = _without_modules(flat, list(places))
    return {name: places[at[name]] for name in flat} if len(at) == len(flat) else None


def _without_modules(own: list[str], found: list[str]) -> dict[str, str]:
    """Return the names of a file by own ones where they differ by what the modules are called, and by nothing else."""
    ours, theirs = ({name.partition(".")[2]: name for name in names} for names in (own, found))
    same = ours.keys() == theirs.keys() and len(ours) == len(own)
    return {ours[rest]: theirs[rest] for rest in ours} if same else {}


def _ordered(names: list[str], groups: Sequence[Any], places: Mapping[str, tuple[int, int]]) -> dict[str, Any] | None:
    """Return the one group of a file that has just these parameters, in their order; None where none has."""
    numbers = {places[name][0] for name in names}
    if len(numbers) != 1 or len(group := groups[numbers.pop()]["params"]) != len(names):
        return None
    whole = groups[places[names[0]][0]]
    order = [places[name][1] for name in names]
    ordered = {**whole, "params": [group[place] for place in order]}
    if isinstance(known := whole.get("param_names"), list | tuple) and len(known) == len(order):
        ordered["param_names"] = [known[place] for place in order]
    return ordered


def _overlap(own: list[list[str]], found: list[list[str]]) -> bool:
    """Say whether names are partly the same, so that the others are of other parameters, not of a renamed module."""
    named = {name for group in found for name in group if not name.startswith("\0")}
    return any(name in named for group in own for name in group)


def _told(own: list[list[str]], found: list[list[str]]) -> Mismatch:
    return Mismatch("param_groups", "kind", _listed(own, found), _listed(found, own))


def _listed(names: list[list[str]], others: list[list[str]]) -> str:
    """Return the parameters of groups in words: those that the other side lacks, or each group where it has all."""
    known = {name for group in others for name in group}
    alone = [name for group in names for name in group if name not in known and not name.startswith("\0")]
    if alone:
        return f"the parameters {', '.join(f'`{name}`' for name in alone[:8])}"
    groups = [", ".join(f"`{name}`" for name in group if not name.startswith("\0")) for group in names]
    return f"the groups {' | '.join(groups)}"
