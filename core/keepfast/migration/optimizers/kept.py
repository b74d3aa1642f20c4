"""What the optimizers of a file keep, parameter by parameter, whatever framework they are of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from keepfast.errors import shown
from keepfast.migration.layouts import Array
from keepfast.migration.optimizers.families import FAMILIES, class_of, options_from, slots_of
from keepfast.migration.optimizers.ownership import NotKnownError, Parameter, by_name, by_order
from keepfast.migration.optimizers.states import OptaxState, is_torch, taken_apart
from keepfast.tree import Tree, flatten, is_array

Names = Sequence[Sequence[str | None]]
"""The names of the parameters of each group of an optimizer of PyTorch."""


_MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What reading something else raises: text for a step, say."""


@final
@dataclass(frozen=True)
class Kept:
    """What an optimizer keeps for a parameter.

    Attributes:
        optimizer: the optimizer's name.
        slots: by what PyTorch calls it.
        step: how often the parameter was changed; None where nothing counts it.
        options: the hyperparameters that stand in the state, as options of PyTorch.
        scaled: whether the momentum is of steps that were multiplied with the rate before.
        torch: whether it is of PyTorch.
    """

    optimizer: str
    slots: Mapping[str, Array]
    step: float | None
    options: Mapping[str, Any] = field(default_factory=dict)
    scaled: bool = False
    torch: bool = True


def read(
    name: str, tree: Tree, parameters: Sequence[Parameter], names: Names | None, steps: Sequence[float] = ()
) -> dict[str, Kept]:
    """Return what an optimizer of a file keeps for each parameter, by the parameter's full name.

    Args:
        name: the optimizer's name.
        tree: its state.
        parameters: those of the file's networks, in their order.
        names: what the file says that its parameters are called; of an optimizer of PyTorch alone.
        steps: what a TrainState, or an optimizer of flax.nnx, counted beside it.

    Raises:
        NotKnownError: if it is of no family that is known, or not of these networks.
    """
    try:
        if is_torch(tree):
            return dict(_of_torch(name, tree, parameters, names))
        return dict(_of_optax(name, tree, parameters, steps))
    except _MALFORMED as error:
        raise NotKnownError(f"it is no state as such an optimizer keeps it ({shown(error)})") from error


def numbered(state: Mapping[str, Any]) -> list[tuple[Any, Mapping[str, Any]]]:
    """Return the number of each parameter of an optimizer of PyTorch, with the options of its group.

    Raises:
        NotKnownError: if it is the state of none.
    """
    groups = state["param_groups"]
    if not isinstance(groups, list | tuple) or not isinstance(state["state"], Mapping):
        raise NotKnownError("it is no state of an optimizer")
    if not all(isinstance(group, Mapping) and isinstance(group.get("params"), list | tuple) for group in groups):
        raise NotKnownError("its groups have no parameters")
    return [(number, group) for group in groups for number in group["params"]]


def names_in(state: Mapping[str, Any], names: Names | None) -> list[str] | None:
    """Return the name of each parameter of an optimizer of PyTorch, by its groups or else as given, or None."""
    own = [group.get("param_names") for group in state["param_groups"]]
    for known in (own, names):
        flat = [each for group in known or () for each in group or ()]
        if len(flat) == len(numbered(state)) and all(isinstance(each, str) for each in flat):
            return [str(each) for each in flat]
    return None


def owners(
    state: Mapping[str, Any], parameters: Sequence[Parameter], names: Names | None, hint: str
) -> list[Parameter]:
    """Return the parameter of each number of an optimizer of PyTorch.

    Raises:
        NotKnownError: if it is not known.
    """
    entries = [_entry(state, number) for number, _ in numbered(state)]
    arrays = [[each for name, each in entry.items() if name != "step" and is_array(each)] for entry in entries]
    shapes = [tuple(found[0].shape) if found else None for found in arrays]
    if (known := names_in(state, names)) is not None:
        found = by_name({name: shape or () for name, shape in zip(known, shapes, strict=True)}, parameters, hint)
        return [found[name] for name in known]
    return by_order(shapes, parameters, hint)


def _entry(state: Mapping[str, Any], number: Any) -> Mapping[str, Any]:
    found = state["state"].get(number, state["state"].get(str(number), {}))
    return found if isinstance(found, Mapping) else {}


def _of_torch(
    name: str, tree: Mapping[str, Any], parameters: Sequence[Parameter], names: Names | None
) -> Iterator[tuple[str, Kept]]:
    for _, group in numbered(tree):
        if slots_of(group) is None:
            what = class_of(group) or "an optimizer that is not known"
            raise NotKnownError(f"it is {what}; converted are {', '.join(FAMILIES.values())}")
    for (number, group), parameter in zip(numbered(tree), owners(tree, parameters, names, name), strict=True):
        entry = _entry(tree, number)
        slots = {slot: np.asarray(each) for slot, each in entry.items() if slot != "step" and is_array(each)}
        step = _number(entry["step"]) if "step" in entry else None
        options = {option: value for option, value in group.items() if option not in ("params", "param_names")}
        yield parameter.name, Kept(name, slots, step, options)


def _of_optax(
    name: str, tree: Tree, parameters: Sequence[Parameter], beside: Sequence[float]
) -> Iterator[tuple[str, Kept]]:
    state, flat = taken_apart(tree), flatten(tree)
    require_known(state)
    found = by_name(shapes_of(state, flat), parameters, name) if state.slots else {}
    others = {*map(float, beside), *(_number(flat[path]) for path in state.others)}
    for rest, slots in state.slots.items():
        if frozenset(slots) not in FAMILIES:
            raise NotKnownError(f"it keeps {', '.join(sorted(slots))} for `{rest}`, which no optimizer of PyTorch does")
        steps = {_number(flat[state.counts[rest]])} if rest in state.counts else others
        given = {each: _number(flat[path]) for each, path in state.hyperparameters[rest].items()}
        arrays = {slot: np.asarray(flat[path]) for slot, path in slots.items()}
        step = next(iter(steps)) if len(steps) == 1 else None
        yield found[rest].name, Kept(name, arrays, step, options_from(given), rest in state.scaled, torch=False)


def _number(leaf: Any) -> float:
    """Return a number as it was written: 0.9 of the float32 that is next to it."""
    array = np.asarray(leaf)
    return float(str(array[()])) if array.dtype == np.float32 else float(array)


def shapes_of(state: OptaxState, flat: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of what is kept for each parameter, by its path within the optimizer's tree."""
    return {rest: tuple(flat[next(iter(slots.values()))].shape) for rest, slots in state.slots.items()}


def require_known(state: OptaxState) -> None:
    """Check that a state of optax is made of what is known, and keeps something.

    Raises:
        NotKnownError: if it is not; names the part.
    """
    if state.unknown:
        raise NotKnownError(f"it keeps what has no counterpart: {', '.join(f'`{each}`' for each in state.unknown[:4])}")
    if not state.slots and not state.others:
        raise NotKnownError("it keeps nothing for any parameter")
