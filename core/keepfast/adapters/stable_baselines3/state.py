"""What a model of stable-baselines3 goes on from beside its networks: counters, episodes, noise, samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np

from keepfast.adapters.environments import EnvironmentState, captured, captured_if_known, restored
from keepfast.errors import LoadMismatch
from keepfast.plain.state import Kept
from keepfast.tree import Tree

_COUNTERS = (
    "num_timesteps",
    "_episode_num",
    "_n_updates",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
)
_EPISODES = ("ep_info_buffer", "ep_success_buffer")
_OBSERVED = ("_last_obs", "_last_episode_starts", "_last_original_obs")
_LOGGED = ("name_to_value", "name_to_count", "name_to_excluded")


@final
class ModelState(Kept):
    """The counters of a model, what it observed last, its noise, and what its logger has yet to write.

    Args:
        model: the model.
        environment: the state of its environment: where that cannot be kept, what was observed last is of no use.
    """

    is_packed: ClassVar[bool] = True

    def __init__(self, model: Any, environment: EnvironmentState) -> None:
        self._model, self._environment = model, environment
        self._later: Mapping[str, Tree] = {}
        self.resumed_at: int | None = None
        """The timesteps that were restored, until `learn` goes on with them."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the model has now."""
        if (is_opaque := self._environment.is_opaque) is None:
            is_opaque = bool(self._environment.obstacle)
        names = (*_COUNTERS, *_EPISODES, *(() if is_opaque else _OBSERVED))
        return {
            "own": {
                name: captured_if_known(getattr(self._model, name)) for name in names if hasattr(self._model, name)
            },
            "noise": captured_if_known(getattr(self._model, "action_noise", None)),
            "actions": captured_if_known(self._model.action_space),
            "logger": self._pending(),
        }

    def _pending(self) -> Tree:
        """Return what was recorded by the model's logger, and not written, of numbers and texts."""
        logger = getattr(self._model, "_logger", None)
        if logger is None:
            return {}
        kept = [key for key, value in logger.name_to_value.items() if isinstance(value, int | float | str | np.generic)]
        return {
            name: captured({key: pending[key] for key in kept if key in pending})
            for name, pending in ((name, getattr(logger, name)) for name in _LOGGED)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it into the model; what `learn` sets anew follows in `go_on`.

        Raises:
            LoadMismatch: if it is of another kind of model.
        """
        model, own = self._model, state["own"]
        for name in (*_COUNTERS, *_EPISODES, *_OBSERVED):
            if name in own:
                setattr(model, name, restored(getattr(model, name, None), own[name]))
        if "_last_obs" not in own:
            model._last_obs = None  # noqa: SLF001  (so that `learn` resets the environment)
        restored(model.action_space, state["actions"])
        self._later = {"noise": state["noise"], "logger": state["logger"]}
        self.resumed_at = model.num_timesteps

    def go_on(self) -> None:
        """Put back what the beginning of `learn` made anew: the noise, and what the logger has yet to write."""
        later, self._later, self.resumed_at = self._later, {}, None
        if not later:
            return
        self._model.action_noise = restored(self._model.action_noise, later["noise"])
        for name, pending in later["logger"].items():
            getattr(self._model.logger, name).update(restored({}, pending))


@final
class BufferState(Kept):
    """The replay buffer of a model: as many rows of it as have samples."""

    holds_samples: ClassVar[bool] = True
    """Whether it is as large as a memory, and has its own checkpoint interval."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def state_dict(self) -> dict[str, Any]:
        """Return the filled rows, shared with the buffer, and where the next one goes."""
        buffer = self._model.replay_buffer
        rows = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
        tensors = {name: captured(_rows(array, rows)) for name, array in _arrays(buffer).items()}
        return {"pos": buffer.pos, "full": buffer.full, "size": buffer.buffer_size, "tensors": tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the rows into the buffer.

        Raises:
            LoadMismatch: if it is of another size, or of other spaces.
        """
        buffer = self._model.replay_buffer
        own = _arrays(buffer)
        if state["size"] != buffer.buffer_size or own.keys() != state["tensors"].keys():
            raise LoadMismatch(
                f"the file has a replay buffer of {state['size']} rows with {', '.join(state['tensors'])}; this one "
                f"has {buffer.buffer_size} rows with {', '.join(own)}"
            )
        for name, saved in state["tensors"].items():
            _put(own[name], restored(None, saved), name)
        buffer.pos, buffer.full = int(state["pos"]), bool(state["full"])


def _arrays(buffer: Any) -> dict[str, Any]:
    """Return the arrays of a buffer by name, those of a dict of observations by the dict of them."""
    found = {}
    for name, value in vars(buffer).items():
        leaves = list(value.values()) if isinstance(value, dict) else [value]
        if leaves and all(isinstance(each, np.ndarray) and not each.dtype.hasobject for each in leaves):
            found[name] = value
    return found


def _rows(array: Any, rows: int) -> Any:
    return {key: each[:rows] for key, each in array.items()} if isinstance(array, dict) else array[:rows]


def _put(own: Any, saved: Any, name: str) -> None:
    if isinstance(own, dict):
        for key, each in saved.items():
            _put(own[key], each, f"{name}.{key}")
    elif own.shape[1:] != saved.shape[1:] or own.dtype != saved.dtype or len(saved) > len(own):
        raise LoadMismatch(
            f"`{name}` of the replay buffer is {own.dtype} {own.shape}, the file has {saved.dtype} {saved.shape}"
        )
    else:
        own[: len(saved)] = saved
