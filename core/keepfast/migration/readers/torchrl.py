"""Checkpoints of TorchRL: state dicts of its modules and losses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files.opening import opened, state_of
from keepfast.migration.readers.own import parts_of
from keepfast.tree import Tree, flatten, is_array

_MARKS = re.compile(r"(^|\.)(__batch_size|module\.0\.module|\w+_network_params|_td_.*)(\.|$)")
_PLAIN = ("__batch_size", "__device", "_extra_state")


@final
class TorchRlReader(CheckpointReader):
    """Reads the state dicts of TensorDictModules, of their sequences and of loss modules."""

    library: ClassVar[str] = "torchrl"

    def recognizes(self, path: Path) -> bool:
        """Say whether there are the names that its modules have."""
        return any(_MARKS.search(name) for name in flatten(state_of(path)))

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return the networks; what only its own containers need is left out."""
        modules, optimizers = parts_of(opened(path).state)
        return ForeignCheckpoint(
            {name: _arrays(tree) for name, tree in modules.items()}, "torch", self.library, optimizers
        )


def _arrays(tree: Tree) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {"": tree}
    kept = {path: leaf for path, leaf in flatten(tree).items() if is_array(leaf)}
    return {path: leaf for path, leaf in kept.items() if not any(part in path for part in _PLAIN)}
