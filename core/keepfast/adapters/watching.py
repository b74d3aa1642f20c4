"""Watching: the episodes of any loop that steps an environment of Gymnasium, and the environment in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, final

import numpy as np

from keepfast._arrays import host_array
from keepfast._system.arguments.guarding import guarded
from keepfast._system.warnings import warn
from keepfast.adapters.environments import EnvironmentState, captured, restored
from keepfast.errors import UsageError, as_given
from keepfast.experiment import Experiment
from keepfast.plain.state import Kept

Env = TypeVar("Env")

_MASK = "reset_mask"
"""The option by which Gymnasium's vector environments are told which of them to reset."""


@guarded
def watch(envs: Env, experiment: Experiment, *, name: str = "env") -> Env:
    """Have an experiment see each step of an environment, so that a loop need not call `record_transition`.

    Rewards, ends and resets are told to it, and it goes by the environment's autoreset mode: with ``NEXT_STEP`` the row
    after an end is no transition, with ``DISABLED`` the loop resets, whole or by ``reset_mask``. Where all of the
    environment's state is in what Python sees of it, checkpoints hold that too; the first `reset` after a resume then
    resets nothing, and returns the observation that the loop was about to act on.

    Args:
        envs: a vector environment of Gymnasium, or one that is stepped alike, under any wrappers; or a single one. The
            loop is to step this very object.
        experiment: the experiment, before `resume`.
        name: what checkpoints call it, where an experiment watches several.

    Returns:
        The same object. Once the experiment is closed it is as it was.

    Raises:
        UsageError: if it cannot be stepped, or is watched already.

    Example::

        envs = keepfast.adapters.watch(gymnasium.make_vec("CartPole-v1", num_envs=4), experiment)
    """
    own: Any = envs
    if isinstance(own, type) or not callable(getattr(own, "step", None)) or not callable(getattr(own, "reset", None)):
        raise UsageError(f"{as_given(envs)} has no `step` and `reset`; give an environment of Gymnasium that was made")
    if isinstance(getattr(vars(own).get("step"), "__self__", None), Watched):
        raise UsageError(
            "this environment is watched already; close that experiment first, or make another environment"
        )
    experiment.set_environment(envs)
    watched = Watched(own, experiment)
    experiment.register(**{name: watched})
    if obstacle := watched.inner.obstacle:
        warn(f"the state of this environment is in no checkpoint, since {obstacle}; a resume begins new episodes")
    own.step, own.reset = watched.step, watched.reset_as_told
    experiment.when_closed(watched.let_go)
    return envs


@final
class Watched(Kept):
    """An environment whose steps are told to an experiment, with the observation that its loop acts on next.

    Args:
        envs: the environment.
        experiment: is told.

    Attributes:
        inner: the state of the environment.
    """

    is_packed: ClassVar[bool] = True

    def __init__(self, envs: Any, experiment: Experiment) -> None:
        self.inner = EnvironmentState(envs)
        self._envs, self._experiment = envs, experiment
        self._before = {name: getattr(envs, name) for name in ("step", "reset")}
        self._held = {name: vars(envs)[name] for name in self._before if name in vars(envs)}
        self._observation: Any = None
        self._over: Any = None
        self._is_resumed = False

    def let_go(self) -> None:
        """Leave the environment as it was."""
        for name in self._before:
            vars(self._envs).pop(name, None)
        vars(self._envs).update(self._held)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take a step, and tell of it."""
        result = self._before["step"](*args, **kwargs)
        self._observation, rewards, terminated, truncated = result[:4]
        self._experiment.record_transition(rewards, terminated, truncated)
        if self._experiment.autoreset == "disabled":
            self._over = np.atleast_1d(host_array(terminated)) | np.atleast_1d(host_array(truncated))
        return result

    def reset_as_told(self, *args: Any, **kwargs: Any) -> Any:
        """Reset, and tell of it; or go on after a resume."""
        is_resumed, self._is_resumed = self._is_resumed, False
        if is_resumed:
            return self._gone_on()
        mask = (kwargs.get("options") or {}).get(_MASK)
        mask = None if mask is None else np.array(mask, bool)
        result = self._before["reset"](*args, **kwargs)
        self._observation = result[0]
        self._over = None if mask is None or self._over is None else self._over & ~mask
        self._experiment.reset_episodes(mask)
        return result

    def _gone_on(self) -> Any:
        """Return the observation that was kept; what had ended and was yet to be reset is reset now."""
        if self._over is None or not self._over.any():
            return self._observation, {}
        over, self._over = self._over, None
        if getattr(self._envs, "num_envs", None) is None:
            result = self._before["reset"]()
        else:
            result = self._before["reset"](options={_MASK: over})
        self._observation = result[0]
        self._experiment.reset_episodes(over)
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return the environment's state with the last observation; nothing where that is not known."""
        state = self.inner.state_dict()
        if state and self._observation is not None:
            state |= {"observation": captured(self._observation), "over": captured(self._over)}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state back, and have the next reset go on with it.

        Raises:
            LoadMismatch: if it is that of an environment that is made of something else.
        """
        self.inner.load_state_dict(state)
        if "observation" in state:
            self._observation, self._over = restored(None, state["observation"]), restored(None, state["over"])
            self._is_resumed = True
