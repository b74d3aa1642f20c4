"""How PyTorch and Flax lay out the same layer: a row a rule, on NumPy arrays, with neither of them installed.

Between the two stands the canonical form of a layer: its arrays as PyTorch lays them out and calls them. A rule reads
that form out of the entries of either side, and writes it into entries of either side.

Sources: the documentation of ``torch.nn`` for the shapes of its parameters, and ``flax/linen`` and ``flax/nnx`` for
those of Flax.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.interfaces.checkpoint_reader import Side
from keepfast.migration.rules.recurrent import RECURRENT

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@final
class NoPlaceError(Exception):
    """A layer holds what the other side's layer has no place for; says what."""


class Rule(abc.ABC):
    """What one kind of layer looks like on both sides."""

    kind: str

    @abc.abstractmethod
    def reads(self, side: Side, entries: Arrays) -> bool:
        """Say whether the entries of a layer, by their names below it, can be of this kind."""

    @abc.abstractmethod
    def canonical(self, side: Side, entries: Arrays) -> dict[str, Array]:
        """Return the canonical form of entries that it reads."""

    @abc.abstractmethod
    def entries(self, side: Side, canonical: Arrays, own: Arrays) -> tuple[dict[str, Array], list[str]]:
        """Return the canonical form as entries of a side, and what is to be told about it.

        Args:
            side: whose.
            canonical: the layer's arrays, in the canonical form.
            own: the entries that the layer has there now, which says what there is a place for.

        Raises:
            NoPlaceError: if something has no place there.
        """

    def signature(self, side: Side, entries: Arrays) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes that two layers of one structure have in common."""
        return {name: array.shape for name, array in self.canonical(side, entries).items()}


@final
@dataclass(frozen=True)
class Weights(Rule):
    """A layer of a weight, and perhaps a bias.

    Attributes:
        kind: what PyTorch calls it.
        ndim: the weight's dimensions in PyTorch.
        leaf: what Flax calls the weight.
        axes: Flax's axes, each by its number in PyTorch.
        flipped: whether the axes of the kernel run the other way.
        bias: whether there can be one.
    """

    kind: str
    ndim: int
    leaf: str
    axes: tuple[int, ...]
    flipped: bool = False
    bias: bool = True

    def reads(self, side: Side, entries: Arrays) -> bool:
        """Say whether there is such a weight, and nothing but a bias beside it."""
        weight = "weight" if side == "torch" else self.leaf
        others = set(entries) - {weight}
        return (
            weight in entries
            and others <= ({"bias"} if self.bias else set())
            and entries[weight].ndim == self.ndim
            and all(entries[name].ndim == 1 for name in others)
        )

    def canonical(self, side: Side, entries: Arrays) -> dict[str, Array]:
        """Return weight and bias as PyTorch has them."""
        if side == "torch":
            return dict(entries)
        back = tuple(int(axis) for axis in np.argsort(self.axes))
        weight = self._flip(entries[self.leaf]).transpose(back)
        return {"weight": weight, **{name: array for name, array in entries.items() if name == "bias"}}

    def entries(self, side: Side, canonical: Arrays, own: Arrays) -> tuple[dict[str, Array], list[str]]:
        """Return weight and bias as the side has them."""
        if side == "torch":
            return dict(canonical), []
        weight = self._flip(canonical["weight"].transpose(self.axes))
        return {self.leaf: weight, **{name: array for name, array in canonical.items() if name == "bias"}}, []

    def _flip(self, kernel: Array) -> Array:
        return np.flip(kernel, tuple(range(self.ndim - 2))) if self.flipped else kernel


@final
@dataclass(frozen=True)
class Slopes(Rule):
    """PReLU: a slope a channel in PyTorch, one for all in Flax."""

    kind: str = "PReLU"

    def reads(self, side: Side, entries: Arrays) -> bool:
        """Say whether there is nothing but slopes."""
        (name, array), *others = entries.items()
        return not others and (name == "weight" if side == "torch" else name == "negative_slope") and array.ndim <= 1

    def canonical(self, side: Side, entries: Arrays) -> dict[str, Array]:
        """Return the slopes, at least one."""
        return {"weight": next(iter(entries.values())).reshape(-1)}

    def entries(self, side: Side, canonical: Arrays, own: Arrays) -> tuple[dict[str, Array], list[str]]:
        """Return the slopes in the shape that the place has."""
        slopes = canonical["weight"]
        name, place = next(iter(own.items()))
        if place.size == 1 and slopes.size > 1:
            if np.any(slopes != slopes[0]):
                raise NoPlaceError(f"it has {slopes.size} different slopes, and Flax's PReLU one for all channels")
            slopes = slopes[:1]
        shape = slopes.shape if 1 not in (place.size, slopes.size) else place.shape
        return {name: slopes.reshape(shape) if slopes.size == math.prod(shape) else np.broadcast_to(slopes, shape)}, []

    def signature(self, side: Side, entries: Arrays) -> dict[str, tuple[int, ...]]:
        """Return that there are slopes: how many there may be is for `entries` to say."""
        return {"weight": ()}


_BATCH = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_COUNT = "num_batches_tracked"


@final
@dataclass(frozen=True)
class BatchNorm(Rule):
    """BatchNorm with its statistics, which Flax keeps in another collection."""

    kind: str = "BatchNorm"

    def reads(self, side: Side, entries: Arrays) -> bool:
        """Say whether there are running statistics."""
        names = _BATCH.keys() | {_COUNT} if side == "torch" else set(_BATCH.values())
        needed = {"running_mean", "running_var"} if side == "torch" else {"mean", "var"}
        return needed <= set(entries) <= names and entries[min(needed)].ndim == 1

    def canonical(self, side: Side, entries: Arrays) -> dict[str, Array]:
        """Return it by PyTorch's names, without the count of batches, which Flax does not have."""
        names = _BATCH if side == "flax" else dict(zip(_BATCH, _BATCH, strict=True))
        kept = {name: entries[own] for name, own in names.items() if own in entries}
        return kept | {name: array for name, array in entries.items() if name == _COUNT}

    def entries(self, side: Side, canonical: Arrays, own: Arrays) -> tuple[dict[str, Array], list[str]]:
        """Return it by the names of the side."""
        notes = []
        kept = {name: array for name, array in canonical.items() if name != _COUNT}
        if side == "flax":
            if _COUNT in canonical:
                notes = ["the count of batches has no place in Flax and stays behind"]
            return {_BATCH[name]: array for name, array in kept.items()}, notes
        if _COUNT in own and _COUNT in canonical:
            kept[_COUNT] = canonical[_COUNT]
        elif _COUNT in own:
            notes = ["Flax has no count of batches; the module keeps its own"]
        return kept, notes

    def signature(self, side: Side, entries: Arrays) -> dict[str, tuple[int, ...]]:
        """Return the shapes, without the count of batches."""
        return {name: each.shape for name, each in self.canonical(side, entries).items() if name != _COUNT}


_THREE = ("query", "key", "value")


@final
@dataclass(frozen=True)
class Attention(Rule):
    """Attention of several heads: three projections in one array in PyTorch, with an axis for the heads in Flax."""

    kind: str = "MultiheadAttention"

    def reads(self, side: Side, entries: Arrays) -> bool:
        """Say whether there are the projections of queries, keys, values and the output."""
        if side == "torch":
            return "out_proj.weight" in entries and ("in_proj_weight" in entries or "q_proj_weight" in entries)
        return {*(f"{name}.kernel" for name in _THREE), "out.kernel"} <= set(entries)

    def canonical(self, side: Side, entries: Arrays) -> dict[str, Array]:
        """Return a weight, and perhaps a bias, for each of the four projections."""
        if side == "flax":
            return self._from_flax(entries)
        found = {"out.weight": entries["out_proj.weight"]}
        if "out_proj.bias" in entries:
            found["out.bias"] = entries["out_proj.bias"]
        for number, name in enumerate(_THREE):
            for kind in ("weight", "bias"):
                if f"in_proj_{kind}" in entries:
                    found[f"{name}.{kind}"] = np.split(entries[f"in_proj_{kind}"], 3)[number]
                elif f"{name[0]}_proj_{kind}" in entries:
                    found[f"{name}.{kind}"] = entries[f"{name[0]}_proj_{kind}"]
        return found

    def _from_flax(self, entries: Arrays) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name in (*_THREE, "out"):
            kernel = entries[f"{name}.kernel"]
            width = kernel.shape[-1] if name == "out" else kernel.shape[0]
            found[f"{name}.weight"] = kernel.reshape((-1, width) if name == "out" else (width, -1)).T
            if f"{name}.bias" in entries:
                found[f"{name}.bias"] = entries[f"{name}.bias"].reshape(-1)
        return found

    def entries(self, side: Side, canonical: Arrays, own: Arrays) -> tuple[dict[str, Array], list[str]]:
        """Return the projections as the side has them; the number of heads is that of the place."""
        if side == "torch":
            return self._to_torch(canonical, own), []
        found: dict[str, Array] = {}
        for path, array in canonical.items():
            name, kind = path.split(".")
            if kind == "bias":
                found[path] = array.reshape(own[path].shape)
            else:
                found[f"{name}.kernel"] = array.T.reshape(own[f"{name}.kernel"].shape)
        heads = own["query.kernel"].shape[1]
        return found, [f"the file does not tell the number of heads; the module has {heads}"]

    def _to_torch(self, canonical: Arrays, own: Arrays) -> dict[str, Array]:
        found = {
            f"out_proj.{kind}": canonical[f"out.{kind}"] for kind in ("weight", "bias") if f"out.{kind}" in canonical
        }
        for kind in ("weight", "bias"):
            if f"query.{kind}" not in canonical:
                continue
            three = [canonical[f"{name}.{kind}"] for name in _THREE]
            if kind == "bias" or "in_proj_weight" in own or not own:
                found[f"in_proj_{kind}"] = np.concatenate(three)
            else:
                found |= {f"{name[0]}_proj_weight": array for name, array in zip(_THREE, three, strict=True)}
        return found


@final
@dataclass(frozen=True)
class Recurrent(Rule):
    """A recurrent cell; see `keepfast.migration.rules.recurrent` for how gates and biases stand on each side."""

    kind: str

    def reads(self, side: Side, entries: Arrays) -> bool:
        """Say whether the entries are the gates of such a cell."""
        return RECURRENT[self.kind].reads(side == "torch", entries)

    def canonical(self, side: Side, entries: Arrays) -> dict[str, Array]:
        """Return the gates stacked, as PyTorch has them."""
        return dict(entries) if side == "torch" else RECURRENT[self.kind].stacked(entries)

    def entries(self, side: Side, canonical: Arrays, own: Arrays) -> tuple[dict[str, Array], list[str]]:
        """Return the gates as the side has them; of biases that are summed on one side, it is told."""
        gates = RECURRENT[self.kind]
        try:
            return gates.to_torch(canonical, own) if side == "torch" else gates.to_flax(canonical, own)
        except ValueError as error:
            raise NoPlaceError(str(error)) from None

    def signature(self, side: Side, entries: Arrays) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights; how many biases there are is for `entries` to say."""
        found = self.canonical(side, entries)
        return {name: found[name].shape for name in ("weight_ih", "weight_hh")}


RULES: tuple[Rule, ...] = (
    Weights("Linear", 2, "kernel", (1, 0)),
    Weights("Bilinear", 3, "kernel", (1, 2, 0)),
    Weights("Conv1d", 3, "kernel", (2, 1, 0)),
    Weights("Conv2d", 4, "kernel", (2, 3, 1, 0)),
    Weights("Conv3d", 5, "kernel", (2, 3, 4, 1, 0)),
    Weights("ConvTranspose1d", 3, "kernel", (2, 0, 1), flipped=True),
    Weights("ConvTranspose2d", 4, "kernel", (2, 3, 0, 1), flipped=True),
    Weights("ConvTranspose3d", 5, "kernel", (2, 3, 4, 0, 1), flipped=True),
    Weights("ConvTranspose1d with transpose_kernel", 3, "kernel", (2, 1, 0)),
    Weights("ConvTranspose2d with transpose_kernel", 4, "kernel", (2, 3, 1, 0)),
    Weights("ConvTranspose3d with transpose_kernel", 5, "kernel", (2, 3, 4, 1, 0)),
    Weights("Norm", 1, "scale", (0,)),
    Weights("Embedding", 2, "embedding", (0, 1), bias=False),
    BatchNorm(),
    Slopes(),
    Attention(),
    Recurrent("GRU"),
    Recurrent("LSTM"),
    Recurrent("RNN"),
)
"""Every rule. Depthwise, grouped and dilated convolutions are of the shapes of any; LayerNorm, GroupNorm and RMSNorm
are one rule, `Norm`, since their entries are alike."""

BY_KIND = {rule.kind: rule for rule in RULES}


def kinds(side: Side, entries: Arrays) -> list[Rule]:
    """Return the rules that can read the entries of a layer, by their names below it."""
    return [rule for rule in RULES if entries and rule.reads(side, entries)]


def reordered(canonical: Arrays, channels: int, side: Side) -> dict[str, Array]:
    """Return a layer that stands behind a flatten, its inputs in the order in which the other side flattens.

    PyTorch flattens (channels, height, width), Flax (height, width, channels). How large height and width are does not
    matter, only their product does.

    Args:
        canonical: the layer's arrays; of a linear layer, the inputs are the weight's last axis.
        channels: of the convolution before the flatten.
        side: the side that the layer goes to.
    """

    def change(array: Array) -> Array:
        *rest, size = array.shape
        parts = (channels, size // channels) if side == "flax" else (size // channels, channels)
        return array.reshape(*rest, *parts).swapaxes(-1, -2).reshape(array.shape)

    linear = canonical["weight"].ndim == 2
    return {name: array if linear and name != "weight" else change(array) for name, array in canonical.items()}
