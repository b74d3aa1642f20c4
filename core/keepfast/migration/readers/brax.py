"""Checkpoints of Brax: a normaliser, a policy and a value function, as a tuple of trees of Flax."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from keepfast.errors import KeepfastError
from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files import inert
from keepfast.migration.files.opening import kind_of, opened
from keepfast.tree import Tree

_NAMES = ("normalizer", "policy", "value")
_STATISTICS = frozenset({"mean", "std"})
_LARGEST_PICKLE = 1 << 31


@final
class BraxReader(CheckpointReader):
    """Reads the parameters that its trainers return, as bytes of Flax or in a pickle of ``save_params``."""

    library: ClassVar[str] = "brax"

    def recognizes(self, path: Path) -> bool:
        """Say whether statistics stand first, and networks behind them."""
        return bool(_parts(path))

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return normaliser, policy and value function."""
        parts = _parts(path)
        parts["normalizer"] = _counted(parts["normalizer"])
        notes = (
            "its observations are (x - mean) / std",
            "its policy gives the mean and the raw deviation in one layer",
        )
        return ForeignCheckpoint(parts, "flax", self.library, notes=notes)


def _parts(path: Path) -> dict[str, Tree]:
    try:
        state = _state(path)
    except (KeepfastError, OSError):
        return {}
    if isinstance(state, Mapping):
        state = [state[key] for key in sorted(state, key=str)] if {"0", "1"} <= set(state) else []
    if not isinstance(state, list | tuple) or not 2 <= len(state) <= len(_NAMES):
        return {}
    first, *rest = state
    is_brax = (
        isinstance(first, Mapping) and set(first) >= _STATISTICS and all(isinstance(each, Mapping) for each in rest)
    )
    return dict(zip(_NAMES, state, strict=False)) if is_brax else {}


def _state(path: Path) -> Any:
    if kind_of(path) == "pickle" and path.stat().st_size <= _LARGEST_PICKLE:
        return inert.tree_of(path.read_bytes(), f"`{path}`")
    return opened(path).state if kind_of(path) == "msgpack" else None


def _counted(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return statistics whose count is one number; newer ones keep its two halves."""
    found = {name: value for name, value in statistics.items() if name in _STATISTICS | {"count", "summed_variance"}}
    if isinstance(count := found.get("count"), Mapping):
        high, low = (int(np.asarray(count.get(part, 0))) for part in ("hi", "lo"))
        found["count"] = np.asarray(float((high << 32) + low))
    return found
