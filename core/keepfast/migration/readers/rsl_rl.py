"""Checkpoints of rsl_rl, versions 2 to 5: actor and critic with their normalisers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files.opening import opened, state_of

_PARTS = {
    "actor_state_dict": "actor",
    "critic_state_dict": "critic",
    "student_state_dict": "student",
    "teacher_state_dict": "teacher",
    "model_state_dict": "",
    "obs_norm_state_dict": "obs_normalizer",
    "privileged_obs_norm_state_dict": "critic_obs_normalizer",
    "rnd_state_dict": "rnd",
}
"""What stands where: since version 4 each network by itself, before that all in one."""

_OPTIMIZERS = {"optimizer_state_dict": "optimizer", "rnd_optimizer_state_dict": "rnd_optimizer"}


@final
class RslRlReader(CheckpointReader):
    """Reads what its runners save, ``model_100.pt`` for example."""

    library: ClassVar[str] = "rsl_rl"

    def recognizes(self, path: Path) -> bool:
        """Say whether there are its networks beside its count of iterations."""
        state = state_of(path)
        return "iter" in state and bool({"actor_state_dict", "model_state_dict"} & set(state)) and "infos" in state

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return the networks; observations are normalised with a deviation to which 0.01 is added."""
        state = opened(path).state
        modules = {name: dict(state[key]) for key, name in _PARTS.items() if isinstance(state.get(key), Mapping)}
        optimizers = {name: state[key] for key, name in _OPTIMIZERS.items() if isinstance(state.get(key), Mapping)}
        normalised = any("normalizer" in str(name) for tree in modules.values() for name in tree) or len(modules) > 2
        notes = ("its observations are (x - mean) / (std + 0.01)",) if normalised else ()
        return ForeignCheckpoint(modules, "torch", self.library, optimizers, notes=notes)
