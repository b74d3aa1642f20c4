"""What is no layer: parameters that stand alone, such as a log of a standard deviation, and running statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from keepfast.interfaces.checkpoint_reader import Side
from keepfast.migration.layouts import Array, Arrays, NoPlaceError, Rule

_NAMES = {
    "mean": ("mean", "_mean", "running_mean", "obs_mean"),
    "var": ("var", "_var", "running_var", "running_variance", "variance"),
    "count": ("count", "_count", "current_count", "num", "n"),
    "std": ("std", "_std", "running_std"),
    "summed_variance": ("summed_variance",),
}
_MEANING = {name: meaning for meaning, names in _NAMES.items() for name in names}


@final
@dataclass(frozen=True)
class Statistics(Rule):
    """Running statistics of observations, values or returns: a mean, a variance, and what they are counted by."""

    kind: str = "Normaliser"

    def reads(self, side: Side, entries: Arrays) -> bool:
        """Say whether there is a mean and a variance, and nothing but what goes with them."""
        meanings = {_MEANING.get(name) for name in entries}
        return None not in meanings and "mean" in meanings and bool(meanings & {"var", "std", "summed_variance"})

    def canonical(self, side: Side, entries: Arrays) -> dict[str, Array]:
        """Return mean and variance without axes of one, and the count where there is one."""
        told = {_MEANING[name]: np.squeeze(array) for name, array in entries.items()}
        if "var" not in told and "std" in told:
            told["var"] = np.square(told["std"])  # what observations are divided by, before anything else
        elif "var" not in told:
            told["var"] = told["summed_variance"] / np.maximum(told.get("count", 1), 1)
        return {name: told[name] for name in ("mean", "var", "count") if name in told}

    def entries(self, side: Side, canonical: Arrays, own: Arrays) -> tuple[dict[str, Array], list[str]]:
        """Return the statistics by the names of the place, whatever they are."""
        told = dict(canonical)
        told["std"] = np.sqrt(told["var"])
        if "count" in told:
            told["summed_variance"] = told["var"] * told["count"]
        found = {
            name: told[_MEANING[name]].reshape(array.shape) for name, array in own.items() if _MEANING[name] in told
        }
        notes = [f"the file has no {name}; the module keeps its own" for name in own if name not in found]
        if "count" in canonical and not any(_MEANING[name] == "count" for name in own):
            notes.append("the module does not count; the file's count stays behind")
        return found, notes

    def signature(self, side: Side, entries: Arrays) -> dict[str, tuple[int, ...]]:
        """Return the shape of the mean."""
        return {"mean": next(np.squeeze(array).shape for name, array in entries.items() if _MEANING[name] == "mean")}


@final
@dataclass(frozen=True)
class Alone(Rule):
    """A parameter that stands alone: alike on both sides, but for axes of one.

    Attributes:
        kind: what it is called in messages.
        to: what a source's value becomes, where the two sides mean different things by it.
    """

    kind: str = "Parameter"

    def reads(self, side: Side, entries: Arrays) -> bool:
        """Say whether there is one entry."""
        return len(entries) == 1

    def canonical(self, side: Side, entries: Arrays) -> dict[str, Array]:
        """Return the value."""
        return {"value": next(iter(entries.values()))}

    def entries(self, side: Side, canonical: Arrays, own: Arrays) -> tuple[dict[str, Array], list[str]]:
        """Return the value in the shape of its place."""
        name, place = next(iter(own.items()))
        if place.size != canonical["value"].size:
            raise NoPlaceError(f"its shape is {canonical['value'].shape}, and the module has {place.shape}")
        notes = [] if place.shape == canonical["value"].shape else [f"{canonical['value'].shape} became {place.shape}"]
        return {name: canonical["value"].reshape(place.shape)}, notes

    def signature(self, side: Side, entries: Arrays) -> dict[str, tuple[int, ...]]:
        """Return the shape without axes of one."""
        return {"value": tuple(size for size in next(iter(entries.values())).shape if size != 1)}


STATISTICS = Statistics()
ALONE = Alone()
