"""EnvironmentState: an environment of Gymnasium, as skrl wraps it, in checkpoints."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, final

import numpy as np

from keepfast._system.warnings import warn
from keepfast.errors import LoadMismatch
from keepfast.interfaces.adapter import descends
from keepfast.plain import generators
from keepfast.tree import is_array

_WRAPPERS = (
    "skrl.envs.wrappers.torch.gymnasium_envs.GymnasiumWrapper",
    "skrl.envs.wrappers.jax.gymnasium_envs.GymnasiumWrapper",
)

_LINKS = ("env", "envs")
"""The attributes by which environments hold others."""

_HARMLESS = ("gymnasium.spaces", "gymnasium.envs.registration", "gymnasium.vector.utils", "pygame", "logging")
"""Where classes come from whose objects are no part of an environment's state."""

_BUFFERS = ("_observations", "_env_obs", "observations")
"""What vector environments hand observations over in, which the next step fills anew."""


def is_kept(env: Any) -> bool:
    """Say whether the state of an environment can be kept: every part of it is plain, or a random generator."""
    return descends(env, *_WRAPPERS) and _strange(env) is None


def told_lacking(env: Any) -> None:
    """Warn, where an environment is given whose state cannot be kept, of what stands in the way."""
    if env is None or is_kept(env):
        return
    strange = _strange(env) if descends(env, *_WRAPPERS) else None
    reason = "it is none of Gymnasium that skrl wrapped" if strange is None else f"{strange} cannot be looked into"
    warn(f"the state of the environment is in no checkpoint, for {reason}; a resume begins new episodes")


def _nodes(env: Any) -> Iterator[tuple[str, Any]]:
    """Yield an environment and all that it holds, each by its path."""
    pending: list[tuple[str, Any]] = [("env", vars(env)["_env"])]
    while pending:
        path, node = pending.pop()
        yield path, node
        for link in _LINKS:
            below = vars(node).get(link)
            several = below if isinstance(below, list | tuple) else [below]
            pending += [(f"{path}.{link}{n}", each) for n, each in enumerate(several) if hasattr(each, "__dict__")]


def _strange(env: Any) -> str | None:
    """Return the first part of an environment that may be a state and cannot be kept, or None."""
    for _, node in _nodes(env):
        for name, value in vars(node).items():
            if name not in _LINKS and tree_of(value) is _NOTHING and not _is_harmless(value):
                kind = type(value)
                return f"`{name}` of its `{type(node).__qualname__}`, a `{kind.__module__}.{kind.__qualname__}`,"
    return None


def _is_harmless(value: Any) -> bool:
    """Say whether a value that is nothing plain is no part of a state either: a function, a space, a map of letters."""
    if callable(value) or isinstance(value, enum.Enum | ModuleType):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "SU"
    if isinstance(value, list | tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        return all(tree_of(each) is not _NOTHING or _is_harmless(each) for each in parts)
    return any(kind.__module__.startswith(_HARMLESS) for kind in type(value).__mro__)


@final
class EnvironmentState:
    """Keeps an environment and the observation that the next timestep begins with.

    skrl's trainers reset an environment as they begin. After a resume that gives the observation that was kept, unless
    the episode of a lone environment was over, which is reset then.

    Args:
        env: the environment, as skrl wrapped it.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self._observation: Any = None
        self._ends: tuple[Any, ...] = ()

    def note(self, transition: Mapping[str, Any]) -> None:
        """Take note of what a step gave."""
        self._observation = transition.get("next_observations", transition.get("next_states"))
        self._ends = transition["terminated"], transition["truncated"]

    def state_dict(self) -> dict[str, Any]:
        """Return the values of all that it is made of, and the last observation."""
        values = {}
        for path, node in _nodes(self._env):
            found = {name: tree_of(value) for name, value in vars(node).items() if name not in (*_LINKS, *_BUFFERS)}
            values[path] = {name: value for name, value in found.items() if value is not _NOTHING}
        over = any(bool(each.any()) for each in self._ends)
        return {"observation": self._observation, "over": over, "values": values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the values back, and have the next reset give the observation."""
        nodes = dict(_nodes(self._env))
        if nodes.keys() != state["values"].keys():
            raise LoadMismatch(
                f"the environment is made of {', '.join(nodes)}; the file's of {', '.join(state['values'])}"
            )
        for path, values in state["values"].items():
            for name, saved in values.items():
                put(nodes[path], name, saved)
        self._observation = state["observation"]
        if self._observation is not None:
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


_NOTHING = object()
_GENERATOR, _NUMBER = "__generator__", "__number__"


def tree_of(value: Any) -> Any:
    """Return a value in plain containers; `_NOTHING` of what is none."""
    if generators.includes(value):
        return {_GENERATOR: _spelled(generators.capture(value))}
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return value
    if is_array(value) and isinstance(value, np.ndarray):
        return value if value.dtype.kind in "biufc" else _NOTHING
    if type(value) in (list, tuple, deque):
        made = [tree_of(each) for each in value]
        return _NOTHING if any(each is _NOTHING for each in made) else made
    if type(value) is dict and all(isinstance(key, str) for key in value):
        table = {key: tree_of(each) for key, each in value.items()}
        return _NOTHING if any(each is _NOTHING for each in table.values()) else table
    return _NOTHING


def _spelled(state: Any) -> Any:
    """Return a generator's state, whose numbers are larger than files hold, with these as text."""
    if isinstance(state, Mapping):
        return {key: _spelled(each) for key, each in state.items()}
    return {_NUMBER: str(state)} if type(state) is int else state


def _numbers(state: Any) -> Any:
    if isinstance(state, Mapping):
        return int(state[_NUMBER]) if _NUMBER in state else {key: _numbers(each) for key, each in state.items()}
    return state


def put(node: Any, name: str, saved: Any) -> None:
    """Give an attribute of an environment or a space what `tree_of` returned of it."""
    own = vars(node).get(name)
    if isinstance(saved, Mapping) and _GENERATOR in saved:
        if own is None:
            own = np.random.Generator(np.random.PCG64())
            setattr(node, name, own)
        generators.restore(own, _numbers(saved[_GENERATOR]))
    elif isinstance(own, np.ndarray) and is_array(saved) and own.shape == tuple(saved.shape):
        own[...] = np.asarray(saved)
    else:
        vars(node)[name] = _like(own, saved)


def _like(own: Any, saved: Any) -> Any:
    if is_array(saved):
        return np.array(saved)
    if isinstance(saved, list | tuple):
        made = [_like(None, each) for each in saved]
        return deque(made, own.maxlen) if isinstance(own, deque) else tuple(made) if isinstance(own, tuple) else made
    return saved
