"""Checkpoints of stable-baselines3: its zip archives, and the statistics of VecNormalize beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from keepfast.errors import CorruptCheckpoint, KeepfastError, shown
from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files.inert import PickledObject
from keepfast.migration.files.opening import content, kind_of, member, members
from keepfast.tree import Tree

_POLICY, _VARIABLES, _OPTIMIZER = "policy.pth", "pytorch_variables.pth", ".optimizer.pth"
_VERSION = "_stable_baselines3_version"
_LARGEST_STATISTICS = 1 << 28
"""Bytes of a pickle that may hold statistics; those of a VecNormalize are some thousand."""


@final
class StableBaselines3Reader(CheckpointReader):
    """Reads what ``model.save`` writes for PPO, A2C, SAC, TD3, DDPG and DQN, and what ``VecNormalize.save`` does.

    The archive's ``data``, pickled with code, stays unread.
    """

    library: ClassVar[str] = "stable-baselines3"

    def recognizes(self, path: Path) -> bool:
        """Say whether it is such an archive, or the pickle of a VecNormalize."""
        return {"data", _POLICY} <= set(members(path)) or _statistics(path) is not None

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return the policy, with actor, critics and target networks; and statistics, where they lie beside it."""
        if (statistics := _statistics(path)) is not None:
            return ForeignCheckpoint(*statistics[:1], library=self.library, notes=statistics[1])
        names = members(path)
        state = member(path, _POLICY).state
        if not isinstance(state, Mapping):
            raise CorruptCheckpoint(f"`{path}` holds no policy: its part `{_POLICY}` is no state dict")
        policy = {str(name): value for name, value in state.items()}
        variables = member(path, _VARIABLES).state if _VARIABLES in names else {}
        policy |= {str(name): value for name, value in variables.items()} if isinstance(variables, Mapping) else {}
        modules, notes = {"": policy}, _notes(policy)
        if (beside := _beside(path)) is not None:
            found = _statistics(beside) or ({}, ())
            modules |= found[0]
            notes += (f"statistics were read from `{beside.name}` beside it", *found[1])
        optimizers = {
            name.removesuffix(_OPTIMIZER): member(path, name).state for name in names if name.endswith(_OPTIMIZER)
        }
        version = shown(content(path, _VERSION)[:40].decode(errors="replace").strip()) if _VERSION in names else ""
        return ForeignCheckpoint(modules, "torch", f"{self.library} {version}".strip(), optimizers, notes=notes)


def _notes(policy: Mapping[str, Any]) -> tuple[str, ...]:
    if any(name.startswith("actor.latent_pi") for name in policy):
        return ("its actions are the tanh of the mean, scaled to the action space",)
    if any(name.startswith("actor.mu.0") for name in policy):
        return ("its actor ends in a tanh, scaled to the action space",)
    return ()


def _beside(path: Path) -> Path | None:
    """Return the statistics that belong to an archive: of its name, or, beside the only archive, the only ones."""
    found = sorted(each for each in path.parent.glob("*.pkl") if "normalize" in each.name.lower())
    named = [each for each in found if path.stem in each.name]
    alone = len(list(path.parent.glob("*.zip"))) == 1
    chosen = named or (found if alone else [])
    return chosen[0] if len(chosen) == 1 and _statistics(chosen[0]) is not None else None


def _statistics(path: Path) -> tuple[dict[str, Tree], tuple[str, ...]] | None:
    """Return the statistics in the pickle of a VecNormalize, or None where it is something else."""
    try:
        if kind_of(path) != "pickle" or path.stat().st_size > _LARGEST_STATISTICS:
            return None
        found = PickledObject(path.read_bytes(), f"`{path}`")
        if not found.path.endswith(".VecNormalize"):
            return None
        modules = {key: _of(found.tree(key)) for key in ("obs_rms", "ret_rms") if key in found}
    except (KeepfastError, OSError):
        return None
    epsilon, clip = found.number("epsilon"), found.number("clip_obs")
    notes = (f"its observations are (x - mean) / sqrt(var + {epsilon}), clipped to {clip}",)
    return {key: tree for key, tree in modules.items() if tree}, notes


_STATISTICS = ("mean", "var", "count")


def _of(tree: Tree) -> Tree:
    """Return the statistics of a running mean, or, where there is one for each part of an observation, of all."""
    if not isinstance(tree, dict):
        return {}
    parts = {key: _of(each) for key, each in tree.items() if isinstance(each, dict)}
    found = {
        name: np.asarray(tree[name]) for name in _STATISTICS if isinstance(tree.get(name), np.ndarray | int | float)
    }
    return parts | {name: value for name, value in found.items() if value.dtype != object}
