"""States of optimizers into optimizers, once it is known which parameter went where; whole, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from keepfast.migration.conversion import Converted
from keepfast.migration.layouts import Array
from keepfast.migration.optimizers.advice import Told, crossing, differing
from keepfast.migration.optimizers.families import AMSGRAD, FAMILIES, counts, injected, slots_of
from keepfast.migration.optimizers.kept import Kept, Names, numbered, owners, require_known, shapes_of
from keepfast.migration.optimizers.ownership import NotKnownError, Parameter, by_name, plain
from keepfast.migration.optimizers.states import OPT_STATE, OptaxState, is_torch, taken_apart
from keepfast.migration.report import MigratedOptimizer
from keepfast.migration.rules.moving import Way, ways
from keepfast.tree import Tree, flatten, map_leaves

_SMALL = 1e-6
_SEVERAL = "the file's layer went into several, each with gradients of its own"


@final
@dataclass(frozen=True)
class OptimizerPlace:
    """An optimizer that a state goes into.

    Attributes:
        module: the name of the module that it is, or is part of.
        path: where it is within that; "" where it is all of it.
        tree: its present state.
        names: what the parameters of each group of an optimizer of PyTorch are called, where that is known.
        kinds: what is known of the class of the state of optax at each path.
        steps: where within the module a TrainState, or an optimizer of flax.nnx, counts its steps.
        is_alone: whether the module is nothing else.
        whole: the module's whole tree.
        told: the file's optimizer that the caller named for it.
    """

    module: str
    path: str
    tree: Tree
    names: Names | None = None
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: Sequence[str] = ()
    is_alone: bool = True
    whole: Tree = None
    told: str | None = None

    @property
    def name(self) -> str:
        """Return what it is called: as the module, if it is all of it that is no count."""
        alone = self.path in ("", OPT_STATE) and self.is_alone
        return self.module if alone else ".".join(filter(None, (self.module, self.path)))


@final
@dataclass(frozen=True)
class Carried:
    """What became of an optimizer.

    Attributes:
        place: the optimizer.
        entry: the report on it.
        tree: its new state; None where it keeps its own.
        told: what there is to tell.
    """

    place: OptimizerPlace
    entry: MigratedOptimizer
    tree: Tree = None
    told: Told = field(default_factory=Told)


@final
class Carrying:
    """Puts what the optimizers of a file keep into others.

    Args:
        made: what became of every layer of the networks.
        parameters: those of the networks that were migrated into.
        pool: what the file's optimizers keep for each parameter, by its full name.
        refused: why an optimizer of the file cannot be read, by its name.
        scheduled: how many steps the file's schedulers of rates have made; None where it has none, or they differ.
    """

    def __init__(
        self,
        made: Iterable[Converted],
        parameters: Sequence[Parameter],
        pool: Mapping[str, Sequence[Kept]],
        refused: Mapping[str, str],
        scheduled: int | None = None,
    ) -> None:
        self._parameters = parameters
        self._pool = pool
        self._refused = refused
        self._scheduled = scheduled
        self._ways: dict[str, Way] = {}
        layers = [each for each in made if each.rule is not None and each.values]
        uses = Counter(id(each.pair.source) for each in layers)
        for each in layers:
            module = each.pair.target.module
            several = _SEVERAL if uses[id(each.pair.source)] > 1 else ""
            found = {path: replace(way, why_not=way.why_not or several) for path, way in ways(each).items()}
            self._ways |= {".".join(filter(None, (module, plain(path)))): way for path, way in found.items()}

    def carry(self, place: OptimizerPlace) -> Carried:
        """Return what becomes of an optimizer."""
        try:
            write = self._into_torch if is_torch(place.tree) else self._into_optax
            tree, kept, told = write(place)
        except NotKnownError as error:
            return Carried(place, MigratedOptimizer(place.name, "left", why=self._reason(place, str(error))))
        active = [each for each in kept if each.slots]
        steps = {each.step for each in active if each.step is not None}
        steps |= {self._scheduled} if not kept and self._scheduled is not None else set()
        entry = MigratedOptimizer(
            place.name,
            "migrated",
            sources=tuple(dict.fromkeys(each.optimizer for each in kept)),
            kind=FAMILIES[frozenset(active[0].slots)] if active else "" if kept else "SGD",
            steps=int(max(steps)) if steps else None,
        )
        return Carried(place, entry, tree, told)

    def sources(self, parameter: Parameter) -> list[str]:
        """Return the full names of what in the file a parameter's numbers came from."""
        way = self._ways.get(parameter.name)
        if way is None or way.why_not:
            return []
        layer = way.source
        return [".".join(filter(None, (layer.module, plain(layer.paths[entry])))) for entry in way.entries()]

    def _reason(self, place: OptimizerPlace, why: str) -> str:
        refused = self._refused
        if place.told is not None:
            refused = {name: reason for name, reason in refused.items() if name == place.told}
        return "; ".join([why, *(f"the file's `{name}`: {reason}" for name, reason in refused.items())])

    def _kept(self, parameter: Parameter, place: OptimizerPlace, told: Told) -> Kept:
        """Return what the file keeps for a parameter, laid out as the module has it.

        Raises:
            NotKnownError: if it keeps nothing, or what it keeps is of another parameter here.
        """
        way = self._ways.get(parameter.name)
        if way is None:
            raise NotKnownError(f"`{parameter.name}` got no value from the file")
        if way.why_not:
            raise NotKnownError(f"`{parameter.name}` has no moments here: {way.why_not}")
        layer = way.source
        names = {entry: ".".join(filter(None, (layer.module, plain(layer.paths[entry])))) for entry in layer.entries}
        used = {entry: self._one(names[entry], place) for entry in way.entries()}
        active = {entry: each for entry, each in used.items() if each.slots}
        one = next(iter(active.values()), next(iter(used.values())))
        if any((each.step, each.slots.keys()) != (one.step, one.slots.keys()) for each in active.values()):
            raise NotKnownError(f"the file keeps different steps for the parts of `{parameter.name}`")
        if way.is_summed:
            told.notes.append(
                f"{parameter.name}: PyTorch moves two biases for each gate where Flax has their sum, so that the "
                "sum moves twice as far there; the moments are those of one of them"
            )
        slots = {
            slot: way.take(
                {
                    entry: used[entry].slots[slot] if entry in active else np.zeros(array.shape, one.slots[slot].dtype)
                    for entry, array in layer.entries.items()
                }
            )
            for slot in one.slots
        }
        return replace(one, slots=slots)

    def _one(self, name: str, place: OptimizerPlace) -> Kept:
        """Return what one optimizer of the file keeps for a parameter of the file."""
        found = [each for each in self._pool.get(name, ()) if place.told in (None, each.optimizer)]
        if len(found) > 1:
            found = [each for each in found if each.optimizer == place.name] or found
        if not found:
            raise NotKnownError(f"the file's optimizers keep nothing for `{name}`")
        if len(found) > 1:
            names = ", ".join(f"`{each.optimizer}`" for each in found)
            raise NotKnownError(
                f'the file has several that keep something for `{name}`: {names}; say which one, `name_map={{"'
                f'{place.name}": "{found[0].optimizer}"}}`'
            )
        return found[0]

    def _all(self, owned: Mapping[Any, Parameter], place: OptimizerPlace, told: Told) -> dict[Any, Kept]:
        kept = {key: self._kept(parameter, place, told) for key, parameter in owned.items()}
        idle = [owned[key].name for key, each in kept.items() if not each.slots and each.step is None]
        if 0 < len(idle) < len(kept):
            names = ", ".join(idle[:4])
            told.notes.append(f"{place.name}: nothing was kept for {names} yet, so that nothing is kept here")
        return kept

    def _into_torch(self, place: OptimizerPlace) -> tuple[Tree, list[Kept], Told]:
        told = Told()
        groups = numbered(place.tree)
        known = owners(place.tree, self._parameters, place.names, place.name)
        kept = self._all(dict(enumerate(known)), place, told)
        entries, own = {}, place.tree["state"]
        for place_in, (number, group) in enumerate(groups):
            each = kept[place_in]
            needed = slots_of(group)
            _require_same(each, needed)
            if not each.slots:
                continue
            each = self._unscaled(each, group) if each.scaled else each
            _require_settled(each, group if not each.torch else {}, crosses=not each.torch)
            dtype = known[place_in].layer.entries[known[place_in].entry].dtype
            made = {slot: array.astype(dtype) if not each.torch else array for slot, array in each.slots.items()}
            if counts(group):
                before = own.get(number, {}).get("step", 0)
                entries[number] = {
                    "step": np.asarray(each.step if each.step is not None else before, np.float32),
                    **made,
                }
            else:
                entries[number] = made
        tree = {**place.tree, "state": entries}
        tree["param_groups"] = _groups(place, kept, told)
        told.add(crossing(place.name, list(kept.values()), place.tree["param_groups"], to_torch=True))
        return tree, list(kept.values()), told

    @staticmethod
    def _unscaled(kept: Kept, group: Mapping[str, Any]) -> Kept:
        rate = float(kept.options.get("lr", group["lr"]))
        return replace(kept, slots=_scaled(kept.slots, -1 / rate if rate else None), scaled=False)

    def _into_optax(self, place: OptimizerPlace) -> tuple[Tree, list[Kept], Told]:
        told = Told()
        state, flat = taken_apart(place.tree, place.kinds), flatten(place.tree)
        require_known(state)
        if not state.slots and self._scheduled is None:
            raise NotKnownError("it keeps nothing but the count of a schedule, and the file has no scheduler")
        owned = by_name(shapes_of(state, flat), self._parameters, place.name) if state.slots else {}
        kept = self._all(owned, place, told)
        values: dict[str, Any] = {}
        for rest, slots in state.slots.items():
            each = kept[rest]
            _require_same(each, frozenset(slots))
            _require_settled(each, each.options, crosses=each.torch)
            if (rest in state.scaled) is not each.scaled and each.slots:
                each = self._rescaled(each, rest in state.scaled)
            for slot, path in slots.items():
                values[path] = each.slots[slot] if each.slots else np.zeros(flat[path].shape)
        values |= _counts(place, state, kept, told, self._scheduled)
        values |= _hyperparameters(place, state, kept, flat, told)
        told.add(crossing(place.name, list(kept.values()), [], to_torch=False, held=_held(state)))
        tree = map_leaves(lambda path, leaf: like(leaf, values[path]) if path in values else leaf, place.tree)
        return tree, list(kept.values()), told

    @staticmethod
    def _rescaled(kept: Kept, scaled: bool) -> Kept:
        rate = kept.options.get("lr")
        if rate is None:
            raise NotKnownError("its momentum has the rate in it on one side, and the file does not tell the rate")
        factor = -float(rate) if scaled else (-1 / float(rate) if float(rate) else None)
        return replace(kept, slots=_scaled(kept.slots, factor))


def _scaled(slots: Mapping[str, Array], factor: float | None) -> dict[str, Array]:
    """Return slots with a momentum of steps that have a rate in them, or no more."""
    if factor is None:
        raise NotKnownError("its momentum has the rate in it, which is zero")
    return {
        slot: array * array.dtype.type(factor) if slot == "momentum_buffer" else array for slot, array in slots.items()
    }


def _require_same(kept: Kept, needed: frozenset[str] | None) -> None:
    """Check that an optimizer keeps what the file's keeps.

    Raises:
        NotKnownError: if it does not.
    """
    if needed is None:
        raise NotKnownError(f"it is none of {', '.join(FAMILIES.values())}")
    if kept.slots and frozenset(kept.slots) != needed:
        theirs = FAMILIES.get(frozenset(kept.slots), "one that is not known")
        raise NotKnownError(
            f"it is {FAMILIES.get(needed, 'none that is known')}, and the file's `{kept.optimizer}` is {theirs}"
        )


def _require_settled(kept: Kept, options: Mapping[str, Any], *, crosses: bool) -> None:
    """Check that a largest square means the same on both sides: optax takes it of corrected ones, PyTorch does not.

    Raises:
        NotKnownError: if the correction still matters.
    """
    if not crosses or frozenset(kept.slots) != AMSGRAD:
        return
    betas = options.get("betas")
    if betas is None or kept.step is None or float(betas[1]) ** kept.step > _SMALL:
        raise NotKnownError(
            f"after {kept.step:g} steps, amsgrad's largest square is corrected for its bias in optax and not in "
            "PyTorch; both are the same once beta2 to the power of the steps is below 1e-06"
        )


def _groups(place: OptimizerPlace, kept: Mapping[int, Kept], told: Told) -> list[dict[str, Any]]:
    """Return the groups of an optimizer of PyTorch with the hyperparameters that the file tells."""
    made, start = [], 0
    for group in place.tree["param_groups"]:
        members = [kept[number] for number in range(start, start + len(group["params"]))]
        start += len(members)
        taken, lines = differing(place.name, group, [each.options for each in members])
        told.notes += lines.notes
        told.warnings += lines.warnings
        made.append({**group, **taken})
    return made


def _counts(
    place: OptimizerPlace, state: OptaxState, kept: Mapping[str, Kept], told: Told, scheduled: int | None
) -> dict[str, Any]:
    """Return the counts of a state of optax; of an optimizer that counts nothing, the file's scheduler tells it."""
    values: dict[str, Any] = {}
    for path in dict.fromkeys(state.counts.values()):
        members = [each for rest, each in kept.items() if state.counts.get(rest) == path and each.slots]
        steps = {each.step for each in members}
        if len(steps) > 1 or None in steps:
            told_steps = ", ".join("not told" if step is None else f"{step:g}" for step in steps)
            raise NotKnownError(f"its parameters were changed {told_steps} times in the file, and optax has one count")
        values[path] = steps.pop() if steps else 0
    if not state.others:
        return values
    steps = {each.step for each in kept.values() if each.slots} or {0 if kept else None}
    steps = {scheduled} if steps == {None} else steps
    if len(steps) != 1 or None in steps:
        told.warnings.append(
            f"{place.name}: the file does not tell how many steps it took; schedules keep their own count"
        )
        return values
    (step,) = steps
    if scheduled not in (None, step):
        told.warnings.append(
            f"{place.name}: the file's scheduler made {scheduled} steps and its optimizer {step:g}, which optax's count"
        )
    return values | dict.fromkeys(state.others, step)


def _hyperparameters(
    place: OptimizerPlace, state: OptaxState, kept: Mapping[str, Kept], flat: Mapping[str, Any], told: Told
) -> dict[str, Any]:
    """Return the injected hyperparameters of a state of optax that the file tells."""
    values: dict[str, Any] = {}
    paths = {path: name for given in state.hyperparameters.values() for name, path in given.items()}
    for path, name in paths.items():
        members = [each for rest, each in kept.items() if path in state.hyperparameters[rest].values()]
        found = {injected(each.options)[name] for each in members if name in injected(each.options)}
        if len(found) == 1:
            values[path] = found.pop()
            if not np.isclose(float(np.asarray(flat[path])), values[path]):
                told.notes.append(f"{place.name}: `{name}` became {values[path]:g}, as the file has it")
        elif found:
            numbers = ", ".join(f"{each:g}" for each in sorted(found))
            told.warnings.append(f"{place.name}: the file's groups have several `{name}` ({numbers}); it keeps its own")
    return values


def _held(state: OptaxState) -> set[str]:
    return {name for given in state.hyperparameters.values() for name in given}


def like(own: Any, value: Any) -> Any:
    """Return a value as a state has it: an array of its dtype, or a number of Python."""
    if not hasattr(own, "dtype"):
        return type(own)(value)
    return np.asarray(value).astype(own.dtype).reshape(own.shape)
