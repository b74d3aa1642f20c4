"""What a runner of rsl_rl goes on from beside its networks: iteration, learning rate, hidden states, episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

from keepfast.adapters.environments import captured, restored
from keepfast.plain.state import Kept

_ALGORITHM = ("learning_rate", "num_updates", "last_hidden_states")
_LOGGER = (
    *("tot_timesteps", "tot_time", "rewbuffer", "lenbuffer", "erewbuffer", "irewbuffer"),
    *("cur_reward_sum", "cur_episode_length", "cur_ereward_sum", "cur_ireward_sum"),
)
_RND = ("update_counter", "weight")


@final
class RunnerState(Kept):
    """The attributes of a runner, of its algorithm and of its logger that no state dict of theirs has.

    Args:
        runner: the runner.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.completed: int | None = None
        """The iterations that are complete; None before the first one here."""

    def _places(self) -> Iterator[tuple[str, Any, str]]:
        """Yield each attribute with its owner and the name that it has in a file."""
        algorithm = self._runner.alg
        rnd = getattr(algorithm, "rnd", None)
        owners = [("algorithm", algorithm, _ALGORITHM), ("logger", self._runner.logger, _LOGGER), ("rnd", rnd, _RND)]
        for name in ("actor", "critic", "student", "teacher"):
            network = getattr(algorithm, f"_raw_{name}", getattr(algorithm, name, None))
            owners.append((name, getattr(network, "rnn", None), ("hidden_state",)))
        owners.append(("rewards", getattr(getattr(rnd, "reward_normalizer", None), "disc_avg", None), ("avg",)))
        for told, owner, names in owners:
            yield from ((f"{told}.{name}", owner, name) for name in names if hasattr(owner, name))

    def state_dict(self) -> dict[str, Any]:
        """Return what the runner has now."""
        return {
            "iteration": int(self._runner.current_learning_iteration if self.completed is None else self.completed),
            "attributes": {path: captured(getattr(owner, name)) for path, owner, name in self._places()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it into the runner, whose next iteration is the one after those that were complete.

        Raises:
            LoadMismatch: if it is of another kind of runner.
        """
        for path, owner, name in self._places():
            if path in state["attributes"]:
                setattr(owner, name, restored(getattr(owner, name), state["attributes"][path]))
        self._runner.current_learning_iteration = self.completed = state["iteration"]
