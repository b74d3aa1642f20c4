"""What an agent of skrl goes on from beside the modules that it stores itself."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, final

import numpy as np

from keepfast._arrays import host_array
from keepfast.adapters.environments import captured, restored
from keepfast.adapters.skrl.environment import array_of
from keepfast.adapters.skrl.hooks import METHODS, Hooks
from keepfast.adapters.skrl.tracing import COUNTERS, TracedActs, counting_models
from keepfast.interfaces.adapter import descends
from keepfast.modules.parts import Attribute, keeps_itself
from keepfast.plain.packing import is_packed, pack, unpack
from keepfast.plain.state import Kept
from keepfast.tree import Tree, is_array, leaves

_PASSED_OVER = frozenset(METHODS) | {
    *("cfg", "models", "memory", "secondary_memories", "observation_space", "state_space", "action_space", "device"),
    *("tracking_data", "write_interval", "experiment_dir", "writer", "training"),
    *("_track_rewards", "_track_timesteps", "_cumulative_rewards", "_cumulative_timesteps"),
    *("checkpoint_modules", "checkpoint_interval", "checkpoint_best_modules", "checkpoint_store_separately"),
}
"""Attributes of an agent that are its tracking, its configuration, or kept elsewhere."""


def registered_modules(agent: Any) -> dict[str, Any]:
    """Return what an agent's checkpoints hold, by name; optimizers on JAX, which are replaced, by their attributes."""
    return {name: _placed(agent, name, module) for name, module in agent.checkpoint_modules.items()}


@final
class _Tables:
    """A model of tables of skrl 1, which are no parameters of it; it tells and takes them by calls of its own."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def state_dict(self) -> dict[str, Any]:
        """Return the tables by name."""
        return dict(self._model.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put tables in the places of its own."""
        self._model.load_state_dict(state)


def _placed(agent: Any, name: str, module: Any) -> Any:
    if descends(module, "skrl.models.torch.tabular.TabularMixin"):
        return _Tables(module)
    if not _is_optimizer_of_jax(module):
        return module
    holding = [each for each, value in vars(agent).items() if value is module]
    place = name if name in vars(agent) or not holding else holding[0]
    return Attribute(agent, place)


def _is_optimizer_of_jax(module: Any) -> bool:
    return all(hasattr(module, name) for name in ("transformation", "state", "step"))


def further_modules(agent: Any) -> dict[str, Any]:
    """Return what an agent has that keeps a state of its own and stands in none of its checkpoints, by attribute."""
    known = {id(module) for module in (*agent.checkpoint_modules.values(), *agent.models.values())}
    stored = set(registered_places(agent))
    found = {}
    for name, value in vars(agent).items():
        if name in _PASSED_OVER or id(value) in known or name in stored:
            continue
        if _is_optimizer_of_jax(value):
            found[name] = Attribute(agent, name)
        elif keeps_itself(type(value)) or hasattr(getattr(value, "state_dict", None), "params"):
            found[name] = value
    return found


def registered_places(agent: Any) -> Iterator[str]:
    """Yield the attributes that hold modules which are replaced, and stand in its checkpoints."""
    yield from (each.name for each in registered_modules(agent).values() if isinstance(each, Attribute))


@final
@dataclass(frozen=True)
class _Owner:
    """An object some of whose attributes are kept: those with plain values that changed since its training began.

    Attributes:
        owner: the object.
        wanted: says of an attribute's name whether it is to be looked at.
    """

    owner: Any
    wanted: Callable[[str], bool]

    def values(self) -> dict[str, Tree]:
        """Return the attributes that have plain values or arrays, by name."""
        found = ((name, _plain(value)) for name, value in list(vars(self.owner).items()) if self.wanted(name))
        return {name: value for name, value in found if value is not _NOTHING}


@final
class AgentState(Kept):
    """Counters, values and the numbers that agents hold from one timestep to the next.

    A value that is what it was when the training began is not kept: one that a user changes in the configuration before
    a resume stays as changed.

    Args:
        agent: the agent.
        hooks: what counts its timesteps.

    Attributes:
        traced: what has a process that resumes compile as the one before it did.
    """

    def __init__(self, agent: Any, hooks: Hooks) -> None:
        self._agent, self._hooks = agent, hooks
        self.traced = TracedActs(agent)
        self._at_start: dict[str, dict[str, Tree]] | None = None
        self._pending: Mapping[str, Any] | None = None

    def begin(self) -> None:
        """Take note of the values at the beginning, once, and put in what a resume before it restored."""
        if self._at_start is None:
            self._at_start = {key: owner.values() for key, owner in self._owners().items()}
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._put(pending)

    def _owners(self) -> dict[str, _Owner]:
        agent = self._agent
        owners = {"agent": _Owner(agent, lambda name: name not in _PASSED_OVER)}
        for name, value in vars(agent).items():
            if type(value).__module__.startswith("skrl.resources.noises"):
                owners[name] = _Owner(value, lambda _: True)
        for role, model in counting_models(agent).items():
            owners[f"models.{role}"] = _Owner(model, lambda name: bool(COUNTERS.fullmatch(name)))
        return owners

    def state_dict(self) -> dict[str, Any]:
        """Return what changed, arrays as NumPy's."""
        if self._pending is not None:
            return dict(self._pending)
        start = self._at_start or {}
        kept = {
            key: {
                name: value
                for name, value in owner.values().items()
                if _has_arrays(value) or name not in start.get(key, {}) or start[key][name] != value
            }
            for key, owner in self._owners().items()
        }
        return {
            "pass_start": self._hooks.pass_start,
            "values": {key: each for key, each in kept.items() if each},
            "spaces": pack({name: captured(generator) for name, generator in self._generators()}),
            "traced": self.traced.state_dict(),
            "flat": [role for role, model in self._agent.models.items() if _is_flat(model)],
        }

    def _generators(self) -> Iterator[tuple[str, Any]]:
        """Yield the generators that an agent's spaces draw actions with, where they did."""
        for name in ("observation_space", "state_space", "action_space"):
            generator = vars(getattr(self._agent, name, None) or _NOTHING_AT_ALL).get("_np_random")
            if generator is not None:
                yield name, generator

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put values back; where the agent is yet to be initialized, once more after that."""
        self._put(state)
        self._pending = state if self._at_start is None else None

    def _put(self, state: Mapping[str, Any]) -> None:
        self._hooks.pass_start = int(state["pass_start"])
        spaces = state["spaces"]
        for name, generator in (unpack(spaces) if is_packed(spaces) else spaces).items():
            space = getattr(self._agent, name)
            space._np_random = restored(vars(space).get("_np_random"), generator)  # noqa: SLF001
        self.traced.load_state_dict(state["traced"])
        for role in state["flat"]:
            _flatten(self._agent.models[role])
        for key, owner in self._owners().items():
            saved = {**self._plain_at_start(key), **state["values"].get(key, {})}
            for name, value in saved.items():
                own = getattr(owner.owner, name, None)
                if _has_arrays(value) or _plain(own) != value:
                    setattr(owner.owner, name, self._like(own, value))

    def _plain_at_start(self, key: str) -> dict[str, Tree]:
        start = (self._at_start or {}).get(key, {})
        return {name: value for name, value in start.items() if not _has_arrays(value)}

    def _like(self, own: Any, saved: Any) -> Any:
        """Return a saved value as an agent has it: in containers like its own, arrays those of its framework."""
        if is_array(saved):
            return self._array(own, host_array(saved))
        if isinstance(saved, Mapping):
            table = own if isinstance(own, Mapping) else {}
            return {key: self._like(table.get(key), each) for key, each in saved.items()}
        if isinstance(saved, list | tuple):
            theirs = list(own) if isinstance(own, list | tuple | deque) else []
            made = [self._like(theirs[n] if n < len(theirs) else None, each) for n, each in enumerate(saved)]
            return deque(made, own.maxlen) if isinstance(own, deque) else tuple(made) if type(own) is tuple else made
        return type(own)(saved) if isinstance(own, np.generic) else saved

    def _array(self, own: Any, saved: Any) -> Any:
        if getattr(own, "requires_grad", False):  # an optimizer holds it
            own.data.copy_(own.data.new_tensor(saved))
            return own
        return np.array(saved) if isinstance(own, np.ndarray) else array_of(self._agent, saved)


_NOTHING, _NOTHING_AT_ALL = object(), SimpleNamespace()


def _is_flat(model: Any) -> bool:
    """Say whether the parameters of a model on PyTorch are parts of one vector, as TRPO's are once it learned."""
    parameters = list(model.parameters()) if hasattr(model, "parameters") else []
    places = [each.untyped_storage().data_ptr() for each in parameters]
    return len(places) > 1 and len(set(places)) == 1


def _flatten(model: Any) -> None:
    """Make the parameters parts of one vector: how a product is rounded depends on where in memory they lie."""
    convert: Any = sys.modules["torch"].nn.utils
    parameters = list(model.parameters())
    convert.vector_to_parameters(convert.parameters_to_vector(parameters), parameters)


def _plain(value: Any) -> Any:
    """Return a value in plain containers, its arrays as NumPy's; `_NOTHING` of what is none."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if is_array(value) and not isinstance(value, type):
        return _host(value)
    if type(value) in (list, tuple, deque):
        made = [_plain(each) for each in value]
        return _NOTHING if any(each is _NOTHING for each in made) else made
    if type(value) is dict and all(isinstance(key, str) for key in value):
        table = {key: _plain(each) for key, each in value.items()}
        return _NOTHING if any(each is _NOTHING for each in table.values()) else table
    return _NOTHING


def _host(value: Any) -> Any:
    array = np.array(host_array(value))
    return _NOTHING if array.dtype.hasobject else array  # a space of Gymnasium has a shape and a dtype as well


def _has_arrays(tree: Tree) -> bool:
    return any(is_array(leaf) for _, leaf in leaves(tree))
