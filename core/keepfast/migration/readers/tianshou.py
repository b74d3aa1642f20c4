"""Checkpoints of Tianshou: the state dicts of its policies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files.opening import opened, state_of

_MARKS = re.compile(r"(^|\.)(preprocess\.(model|net|output)|_actor_critic|sigma_param|model\.model\.model)(\.|$)")
_COPY = "_actor_critic."
_WRAPPERS = ("model", "policy", "state_dict", "algorithm")


@final
class TianshouReader(CheckpointReader):
    """Reads ``torch.save(policy.state_dict(), path)``, by itself or beside the state of an optimizer."""

    library: ClassVar[str] = "tianshou"

    def recognizes(self, path: Path) -> bool:
        """Say whether there are the names that its networks have."""
        return any(_MARKS.search(name) for name in _policy(state_of(path)))

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return the policy's networks once; its free deviations are logarithms."""
        state = opened(path).state
        policy = {name: array for name, array in _policy(state).items() if not name.startswith(_COPY)}
        optimizers = {
            name: tree for name, tree in state.items() if isinstance(tree, Mapping) and "param_groups" in tree
        }
        logarithms = frozenset(name for name in policy if name.rpartition(".")[2] == "sigma_param")
        return ForeignCheckpoint({"": policy}, "torch", self.library, optimizers, logarithms=logarithms)


def _policy(state: Mapping[Any, Any]) -> dict[str, Any]:
    inner = next((state[name] for name in _WRAPPERS if isinstance(state.get(name), Mapping)), state)
    return {str(name): value for name, value in inner.items() if hasattr(value, "shape")}
