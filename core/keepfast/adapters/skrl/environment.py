"""WrappedEnvironment: an environment of Gymnasium, as skrl wraps it, in checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np

from keepfast._arrays import host_array
from keepfast._system.warnings import warn
from keepfast.adapters.environments import EnvironmentState
from keepfast.interfaces.adapter import descends
from keepfast.plain.state import Kept

_WRAPPERS = (
    "skrl.envs.wrappers.torch.gymnasium_envs.GymnasiumWrapper",
    "skrl.envs.wrappers.jax.gymnasium_envs.GymnasiumWrapper",
)


def kept(env: Any) -> WrappedEnvironment | None:
    """Return an environment as checkpoints keep it; None where its state cannot be kept, of which a warning tells."""
    if env is None:
        return None
    obstacle = "it is none of Gymnasium that skrl wrapped"
    if descends(env, *_WRAPPERS):
        found = WrappedEnvironment(env)
        if not (obstacle := found.inner.obstacle):
            return found
    warn(f"the state of the environment is in no checkpoint, for {obstacle}; a resume begins new episodes")
    return None


@final
class WrappedEnvironment(Kept):
    """Keeps an environment and the observation that the next timestep begins with.

    skrl's trainers reset an environment as they begin. After a resume that gives the observation that was kept, unless
    the episode of a lone environment was over, which is reset then.

    Args:
        env: the environment, as skrl wrapped it.

    Attributes:
        inner: what skrl wrapped.
    """

    is_packed: ClassVar[bool] = True

    def __init__(self, env: Any) -> None:
        self._env, self.inner = env, EnvironmentState(vars(env)["_env"])
        self._observation: Any = None
        self._ends: tuple[Any, ...] = ()

    def note(self, transition: Mapping[str, Any]) -> None:
        """Take note of what a step gave."""
        self._observation = transition.get("next_observations", transition.get("next_states"))
        self._ends = transition["terminated"], transition["truncated"]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of what is wrapped, and the last observation."""
        observation = None if self._observation is None else host_array(self._observation)
        over = any(bool(each.any()) for each in self._ends)
        return {"observation": observation, "over": over, **self.inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the state back, and have the next reset give the observation.

        Raises:
            LoadMismatch: if it is that of an environment that is made of something else.
        """
        self.inner.load_state_dict(state)
        if state["observation"] is not None:
            self._observation = array_of(self._env, state["observation"])
            self._go_on(self._observation, is_over=bool(state["over"]))

    def _go_on(self, observation: Any, *, is_over: bool) -> None:
        env, own = self._env, vars(self._env)
        if "_seed" in own:
            own["_seed"] = None
        if own["_vectorized"]:
            own.update(_observation=observation, _info={}, _reset_once=False)
        elif not is_over:

            def reset() -> Any:
                vars(env).pop("reset")
                return observation, {}

            env.reset = reset


def array_of(owner: Any, saved: Any) -> Any:
    """Return a saved array as an agent or an environment of skrl has its own: of its framework, on its device."""
    if getattr(owner, "_jax", True) is False:  # skrl 1.4.3 on JAX, which it may have do nothing but learn
        return np.array(saved)
    if type(owner.device).__module__.startswith("torch"):
        return sys.modules["torch"].tensor(saved, device=owner.device)
    return sys.modules["jax"].device_put(saved, owner.device)
