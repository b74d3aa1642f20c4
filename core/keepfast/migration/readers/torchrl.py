"""Checkpoints of TorchRL: state dicts of its modules and losses, and of the environments that normalise for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files.opening import opened, state_of
from keepfast.migration.readers.own import parts_of
from keepfast.tree import Tree, flatten, is_array

_MARKS = re.compile(
    r"(^|\.)(__batch_size|module\.0\.module|\w+_network_params|_td_.*|standard_normal|loc\.-\|-\.\w+)(\.|$)"
)
_PLAIN = ("__batch_size", "__device", "_extra_state")
_NORM, _VEC_NORM = "standard_normal", re.compile(r"(.*)_extra_state\.loc\.-\|-\.(.+)")
_DECAY = 0.9999
"""Of a VecNorm, unless told otherwise; no file holds it."""


@final
class TorchRlReader(CheckpointReader):
    """Reads the state dicts of TensorDictModules, of their sequences, of loss modules and of environments."""

    library: ClassVar[str] = "torchrl"
    version: ClassVar[int] = 2

    def recognizes(self, path: Path) -> bool:
        """Say whether there are the names that its modules have."""
        return any(_MARKS.search(name) for name in flatten(state_of(path)))

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return the networks and the normalisers; what only its own containers need is left out."""
        modules, optimizers = parts_of(opened(path).state)
        read = {name: _parts(tree) for name, tree in modules.items()}
        notes = tuple(dict.fromkeys(note for _, told in read.values() for note in told))
        kept = {name: tree for name, (tree, _) in read.items() if tree}
        return ForeignCheckpoint(kept, "torch", self.library, optimizers, notes=notes)


def _parts(tree: Tree) -> tuple[dict[str, Any], list[str]]:
    """Return the arrays of a state dict, statistics by what they are, and what there is to tell of these."""
    if not isinstance(tree, Mapping):
        return {"": tree}, []
    flat = {path: np.asarray(leaf) for path, leaf in flatten(tree).items() if is_array(leaf)}
    found = {**_of_observation_norm(flat), **_of_vec_norm(flat)}
    notes = []
    if any(path.rpartition(".")[2] == _NORM for path in flat):
        notes.append("its observations are (x - mean) / sqrt(var)")
    if any(map(_VEC_NORM.fullmatch, flat)):
        notes.append(f"its observations are (x - mean) / max(sqrt(var), 0.0001), if its VecNorm decays by {_DECAY}")
    owners = {path.rpartition(".")[0] for path in flat if path.rpartition(".")[2] == _NORM}
    kept = {path: array for path, array in flat.items() if path.rpartition(".")[0] not in owners}
    return {path: array for path, array in kept.items() if not any(each in path for each in _PLAIN)} | found, notes


def _of_observation_norm(flat: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return mean and variance of each ObservationNorm: x * scale + loc, or (x - loc) / scale."""
    found: dict[str, Any] = {}
    for path, standard in flat.items():
        owner, _, name = path.rpartition(".")
        loc, scale = (flat.get(f"{owner}.{each}".lstrip(".")) for each in ("loc", "scale"))
        if name != _NORM or loc is None or scale is None:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, deviation = (loc, scale) if standard else (-loc / scale, 1 / scale)
        found |= {f"{owner}.normalizer.{each}".lstrip("."): array for each, array in _named(mean, deviation**2).items()}
    return found


def _of_vec_norm(flat: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return mean, variance and count of each VecNorm, which keeps a mean of squares that leans towards zero."""
    found: dict[str, Any] = {}
    for path, loc in flat.items():
        if (match := _VEC_NORM.fullmatch(path)) is None:
            continue
        squares, count = (flat.get(path.replace("loc.-|-", f"{each}.-|-")) for each in ("var", "count"))
        if squares is None or count is None or not np.all(count > 0):
            continue
        known = 1 - np.exp(count * np.log(_DECAY))
        statistics = _named(loc / known, (squares - np.square(loc)) / known) | {"count": count}
        found |= {f"{match[1]}{match[2]}_normalizer.{each}": array for each, array in statistics.items()}
    return found


def _named(mean: NDArray[Any], var: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"mean": np.asarray(mean), "var": np.asarray(var)}
