"""Where each number of a parameter went, so that what an optimizer keeps for it goes the same way.

The layout of a layer is made anew once more, of the places of its numbers in the place of the numbers. What comes out
says for every number of the module which of the file's it is, whatever was transposed, mirrored, split or put into
another order on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from keepfast.migration.conversion import Converted, laid_out_pair
from keepfast.migration.layers import Layer
from keepfast.migration.layouts import Array, NoPlaceError
from keepfast.migration.rules.recurrent import RECURRENT

_Places = dict[str, NDArray[np.int64]]


@final
@dataclass(frozen=True)
class Way:
    """Where the numbers of one parameter came from.

    Attributes:
        source: the layer of the file.
        places: of each number, its place in the file's layer, whose entries stand one behind the other, from 1.
        others: the place of a second number that it is the sum of; 0 where there is none.
        why_not: why what belongs to a number there does not belong to one here; "" where it does.
    """

    source: Layer
    places: NDArray[np.int64]
    others: NDArray[np.int64]
    why_not: str = ""

    @property
    def is_summed(self) -> bool:
        """Say whether there are numbers of which two became one, or one became two."""
        return bool(np.any(self.others))

    def take(self, kept: Mapping[str, Array]) -> Array:
        """Return what is kept for the parameter here, of what is kept for the entries of the layer there.

        Two numbers that became one have equal gradients, and so is what is kept for them; else it is their mean.
        """
        parts = [np.zeros(1), *(kept[name].reshape(-1) for name in self.source.entries)]
        flat = np.concatenate([part.astype(parts[1].dtype) for part in parts])
        first, second = flat[self.places], flat[self.others]
        both = (self.others > 0) & (self.others != self.places) & (first != second)
        return np.where(both, (first + second) / 2, first).astype(flat.dtype) if np.any(both) else first

    def entries(self) -> list[str]:
        """Return the names of the entries there that numbers came from."""
        ends = np.cumsum([array.size for array in self.source.entries.values()])
        used = np.unique(np.concatenate([self.places.reshape(-1), self.others.reshape(-1)]))
        numbers = np.searchsorted(ends, used[used > 0])
        names = list(self.source.entries)
        return [names[number] for number in dict.fromkeys(numbers.tolist())]


def ways(made: Converted) -> dict[str, Way]:
    """Return the way of each entry that a layer of a module got, by its path within the module."""
    assert made.rule is not None, "what is in doubt was refused before"  # noqa: S101
    target = made.pair.target
    told = {target.paths[name]: name for name in target.entries if target.paths[name] in made.values}
    try:
        places, others = _tracked(made)
    except NoPlaceError as error:
        return {path: _none(made, str(error)) for path in told}
    found = {}
    for path, name in told.items():
        if name in places:
            one, other = places[name], others.get(name, np.zeros_like(places[name]))
            both, either = np.where(one > 0, other, 0), np.where(one > 0, one, other)
            found[path] = Way(made.pair.source, either, both, _doubt(made, either))
    return found


def _none(made: Converted, why: str) -> Way:
    nothing = np.zeros(0, np.int64)
    return Way(made.pair.source, nothing, nothing, why)


def _doubt(made: Converted, places: NDArray[np.int64]) -> str:
    if made.is_changed:
        return "it is a logarithm on one side and not on the other, which has another gradient"
    used = places[places > 0]
    if made.rule is not None and made.rule.kind not in RECURRENT and (used.size < places.size or _is_repeated(used)):
        return "one number of it became several, which have other gradients"
    return ""


def _is_repeated(places: NDArray[np.int64]) -> bool:
    return np.unique(places).size < places.size


def _tracked(made: Converted) -> tuple[_Places, _Places]:
    """Return the places of all numbers of a layer, and those of second numbers that became one with them."""
    entries: _Places = {}
    start = 1
    for name, array in made.pair.source.entries.items():
        entries[name] = np.arange(start, start + array.size, dtype=np.int64).reshape(array.shape)
        start += array.size

    def run(change: Callable[[str, NDArray[np.int64]], NDArray[np.int64]]) -> _Places:
        source = replace(made.pair.source, entries={name: change(name, each) for name, each in entries.items()})
        assert made.rule is not None  # noqa: S101
        return laid_out_pair(replace(made.pair, source=source), made.rule, made.channels)

    pair = made.pair
    if made.rule is None or made.rule.kind not in RECURRENT or pair.source.side == pair.target.side:
        return run(lambda _, each: each), {}
    if pair.source.side == "torch":
        first = _allowed(made, run, lambda name: name != "bias_hh")
        return first, _allowed(made, run, lambda name: name == "bias_hh")
    return _both_biases(run(lambda _, each: each), RECURRENT[made.rule.kind].split, RECURRENT[made.rule.kind].count)


def _allowed(
    made: Converted,
    run: Callable[[Callable[[str, NDArray[np.int64]], NDArray[np.int64]]], _Places],
    is_wanted: Callable[[str], bool],
) -> _Places:
    """Return places of some entries; of biases that the module has none for, nothing."""
    assert made.rule is not None  # noqa: S101
    gates = RECURRENT[made.rule.kind]

    def change(name: str, each: NDArray[np.int64], left: int) -> NDArray[np.int64]:
        if not is_wanted(name) or (left == 2 and name.startswith("bias")):
            return np.zeros_like(each)
        if left == 1 and name == "bias_hh":
            parts = np.split(each, gates.count)
            return np.concatenate([part * (gate not in gates.split) for gate, part in enumerate(parts)])
        return each

    for left in (0, 1):
        try:
            return run(lambda name, each, left=left: change(name, each, left))  # type: ignore[misc]
        except NoPlaceError:
            continue
    return run(lambda name, each: change(name, each, 2))


def _both_biases(places: _Places, split: Sequence[int], count: int) -> tuple[_Places, _Places]:
    """Return places with both biases of a gate those of the one that there is."""
    one, other = places.get("bias_ih"), places.get("bias_hh")
    if one is None or other is None:
        return places, {}
    gates = np.repeat(np.arange(count), one.size // count)
    lone = ~np.isin(gates, list(split)) & ((one == 0) | (other == 0))
    shared = np.where(lone, np.where(one > 0, one, other), 0)
    return places, {"bias_ih": shared, "bias_hh": shared}
