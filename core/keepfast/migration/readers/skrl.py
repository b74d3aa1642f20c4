"""Checkpoints of skrl: ``.pt`` of its agents on PyTorch, ``.pickle`` of those on JAX."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, final

from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files.opening import kind_of, opened, state_of
from keepfast.migration.readers.own import separated
from keepfast.tree import flatten

_NETWORKS = frozenset({"policy", "value", "critic", "critic_1", "q_network", "model"})
_MODULES = _NETWORKS | {
    *("critic_2", "target_critic", "target_critic_1", "target_critic_2", "target_policy", "target_q_network"),
    *("optimizer", "policy_optimizer", "value_optimizer", "critic_optimizer", "entropy_optimizer"),
    *("discriminator", "log_entropy_coefficient", "state_preprocessor", "observation_preprocessor"),
    *("value_preprocessor", "reward_preprocessor", "amp_state_preprocessor", "amp_observation_preprocessor"),
}
"""What its agents call their modules."""

_OTHERS = ("module.0.", "__batch_size", ".preprocess.model.", "kernel_init")
"""What stands in the names of others that save a dict of state dicts as well."""


@final
class SkrlReader(CheckpointReader):
    """Reads the checkpoints of skrl 1 and 2, of whole agents."""

    library: ClassVar[str] = "skrl"

    def recognizes(self, path: Path) -> bool:
        """Say whether there are state dicts under the names of its agents, and nothing else."""
        state = state_of(path)
        names = set(map(str, state))
        if any(part in path for path in flatten(state) for part in _OTHERS):
            return False
        return bool(names & _NETWORKS) and names <= _MODULES and not opened(path).about.written_by_keepfast

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return every module under its own name."""
        side = "flax" if kind_of(path) == "pickle" else "torch"
        modules, optimizers = separated(dict(opened(path).state))
        optimizers |= {name: modules.pop(name) for name in list(modules) if name.endswith("optimizer")}
        scaled = any("running_variance" in path for path in flatten(modules))
        notes = ("its observations are (x - mean) / (sqrt(var) + 1e-08), clipped to 5",) if scaled else ()
        return ForeignCheckpoint(modules, side, self.library, optimizers, notes=notes)  # type: ignore[arg-type]
