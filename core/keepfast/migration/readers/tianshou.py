"""Checkpoints of Tianshou: the state dicts of its policies, and the statistics of observations beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files import inert
from keepfast.migration.files.opening import content, members, opened, state_of
from keepfast.tree import Tree, Unread

_MARKS = re.compile(r"(^|\.)(preprocess\.(model|net|output)|_actor_critic|sigma_param|model\.model\.model)(\.|$)")
_COPY = "_actor_critic."
_WRAPPERS = ("model", "policy", "state_dict", "algorithm")
_STATISTICS = ("mean", "var", "count")


@final
class TianshouReader(CheckpointReader):
    """Reads ``torch.save(policy.state_dict(), path)``, by itself or beside an optimizer and ``get_obs_rms()``."""

    library: ClassVar[str] = "tianshou"
    version: ClassVar[int] = 2

    def recognizes(self, path: Path) -> bool:
        """Say whether there are the names that its networks have."""
        return any(_MARKS.search(name) for name in _policy(state_of(path)))

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return the policy's networks once, and the statistics; its free deviations are logarithms."""
        state = opened(path).state
        policy = {name: array for name, array in _policy(state).items() if not name.startswith(_COPY)}
        optimizers = {
            name: tree for name, tree in state.items() if isinstance(tree, Mapping) and "param_groups" in tree
        }
        logarithms = frozenset(name for name in policy if name.rpartition(".")[2] == "sigma_param")
        statistics, notes = _statistics(path, state)
        modules = {"": policy, **statistics}
        return ForeignCheckpoint(modules, "torch", self.library, optimizers, logarithms=logarithms, notes=notes)


def _policy(state: Mapping[Any, Any]) -> dict[str, Any]:
    inner = next((state[name] for name in _WRAPPERS if isinstance(state.get(name), Mapping)), state)
    return {str(name): value for name, value in inner.items() if hasattr(value, "shape")}


def _statistics(path: Path, state: Mapping[Any, Any]) -> tuple[dict[str, Tree], tuple[str, ...]]:
    """Return the statistics that stand in the file as objects, taken apart without their class."""
    names = [str(key) for key, value in state.items() if isinstance(value, Unread)]
    pickled = [name for name in members(path) if name.endswith("data.pkl")]
    if not names or not pickled:
        return {}, ()
    tree = inert.tree_of(content(path, pickled[0]), f"`{path}`", in_archive=True)
    found = {name: tree[name] for name in names if isinstance(tree, dict) and _is_running(tree.get(name))}
    notes = tuple(
        f"its observations are (x - mean) / sqrt(var + {each.get('eps')}), clipped to {each.get('clip_max')}"
        for each in found.values()
    )
    return {
        name: {key: np.asarray(each[key]) for key in _STATISTICS if key in each} for name, each in found.items()
    }, notes


def _is_running(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), np.ndarray) for name in ("mean", "var"))
