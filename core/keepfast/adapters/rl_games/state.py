"""What an agent of rl_games goes on from beside its networks: epochs, frames, running episodes, hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

from keepfast.adapters.environments import EnvironmentState, captured, captured_if_known, restored
from keepfast.plain.state import Kept
from keepfast.tree import Tree

_COUNTERS = ("epoch_num", "frame", "curr_frames", "last_lr", "entropy_coef", "mean_rewards", "last_mean_rewards")
_OF_SAC = ("step", "log_alpha")
_RUNNING = ("obs", "dones", "current_rewards", "current_shaped_rewards", "current_lengths", "rnn_states")
_METERS = ("game_rewards", "game_shaped_rewards", "game_lengths")
_SELF_PLAY = ("updates_num", "env_indexes")
_CENTRAL = ("lr", "frame", "epoch_num")
_OBSERVER = ("ep_infos", "direct_info")
_OBSERVERS_METERS = ("game_scores", "mean_scores")


@final
class LateEnvironment(Kept):
    """Keeps environments that a training resets as it begins: what a resume restored waits until they were.

    Args:
        environment: what keeps them.
    """

    is_packed: ClassVar[bool] = True

    def __init__(self, environment: EnvironmentState) -> None:
        self._environment = environment
        self._later: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state; nothing where it is not known."""
        return self._environment.state_dict() if self._later is None else dict(self._later)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state back, now and once the training has begun.

        Raises:
            LoadMismatch: if it is that of an environment that is made of something else.
        """
        self._environment.load_state_dict(state)
        self._later = state

    def go_on(self) -> None:
        """Put back what a resume restored."""
        later, self._later = self._later, None
        if later is not None:
            self._environment.load_state_dict(later)


@final
class AgentState(Kept):
    """The attributes of an agent, of its central value and of its observer that no state dict of theirs has.

    Args:
        agent: the agent.
        environment: the state of its environments: where that cannot be kept, running episodes are of no use.
    """

    def __init__(self, agent: Any, environment: EnvironmentState) -> None:
        self._agent, self._environment = agent, environment
        self._later: Mapping[str, Tree] | None = None

    @property
    def is_resumed(self) -> bool:
        """Say whether what a resume restored waits for the training to begin."""
        return self._later is not None

    def _places(self) -> Iterator[tuple[str, Any, str]]:
        """Yield each attribute with its owner and the name that it has in a file."""
        agent = self._agent
        running = () if self._environment.obstacle else _RUNNING
        owners = [("agent", agent, (*_COUNTERS, *_OF_SAC, *running))]
        if (manager := getattr(agent, "self_play_manager", None)) is not None:
            owners.append(("self_play", manager, _SELF_PLAY))
        if getattr(agent, "has_central_value", False):
            owners.append(("central", agent.central_value_net, (*_CENTRAL, *(("rnn_states",) if running else ()))))
        observer = getattr(agent.algo_observer, "observed", agent.algo_observer)
        owners.append(("observer", observer, _OBSERVER))
        for owner, names in ((agent, _METERS), (observer, _OBSERVERS_METERS)):
            owners += [(name, vars(owner)[name], ("current_size", "mean")) for name in names if name in vars(owner)]
        for told, owner, names in owners:
            yield from ((f"{told}.{name}", owner, name) for name in names if hasattr(owner, name))

    def state_dict(self) -> dict[str, Any]:
        """Return what the agent has now."""
        if self._later is not None:
            return dict(self._later)
        return {
            path: (captured_if_known if path.startswith("observer.") else captured)(getattr(owner, name))
            for path, owner, name in self._places()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it into the agent; what `train` makes anew follows in `go_on`.

        Raises:
            LoadMismatch: if it is of another kind of agent.
        """
        self._put(state)
        self._later = state

    def go_on(self) -> None:
        """Put back what the beginning of `train` made anew: running episodes, and the best reward so far."""
        later, self._later = self._later, None
        if later is not None:
            self._put(later)

    def _put(self, state: Mapping[str, Any]) -> None:
        for path, owner, name in self._places():
            if path in state:
                own = getattr(owner, name)
                if isinstance(own, Mapping) and state[path].get("kind") == "tensor":
                    own = own["obs"]  # SAC begins with a dict of observations, and goes on with the tensor in it
                setattr(owner, name, restored(own, state[path]))
