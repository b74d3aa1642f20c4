"""Checkpoints of rl_games: a network of PyTorch with its normalisers, beside numbers of NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from keepfast.interfaces.checkpoint_reader import CheckpointReader, ForeignCheckpoint
from keepfast.migration.files.opening import opened, state_of

_NETWORKS = ("a2c_network.", "sac_network.", "running_mean_std.", "value_mean_std.")


@final
class RlGamesReader(CheckpointReader):
    """Reads the ``.pth`` files that its agents save."""

    library: ClassVar[str] = "rl_games"

    def recognizes(self, path: Path) -> bool:
        """Say whether there is a network with the names that rl_games gives."""
        return _network(state_of(path)) is not None

    def read(self, path: Path) -> ForeignCheckpoint:
        """Return the network; its deviation is kept as a logarithm, and one trunk may serve actor and critic."""
        state = opened(path).state
        network = _network(state) or {}
        separate = any(".critic_mlp." in name or ".critic_cnn." in name for name in network)
        shared = () if separate else ("a2c_network.actor_mlp", "a2c_network.actor_cnn", "a2c_network.rnn")
        optimizer = _inner(state).get("optimizer")
        optimizers = {"optimizer": optimizer} if isinstance(optimizer, Mapping) else {}
        notes = ("its observations are (x - mean) / sqrt(var + 1e-05), clipped to 5",)
        normalised = any(name.startswith("running_mean_std") for name in network)
        return ForeignCheckpoint(
            {"": dict(network)},
            "torch",
            self.library,
            optimizers,
            logarithms=frozenset({"a2c_network.sigma"}),
            shared=shared,
            notes=notes if normalised else (),
        )


def _inner(state: Any) -> Mapping[str, Any]:
    """Return what the file holds: newer ones have it below the number of the process."""
    if isinstance(state, Mapping) and "model" not in state and isinstance(state.get(0), Mapping):
        return state[0]  # type: ignore[no-any-return]
    return state if isinstance(state, Mapping) else {}


def _network(state: Any) -> Mapping[str, Any] | None:
    model = _inner(state).get("model")
    if not isinstance(model, Mapping) or not all(isinstance(name, str) for name in model):
        return None
    return model if any(name.startswith(_NETWORKS[:2]) for name in model) else None
