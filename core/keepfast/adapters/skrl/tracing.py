"""Tracing: how often models on JAX were asked for actions while their agent's functions were compiled."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

from keepfast._arrays import host_array
from keepfast.modules.parts import keeps_itself

COUNTERS = re.compile(r"_\w*(i|key)")
"""What models and noises on JAX call the keys that they draw with, and how often they did."""


def counting_models(agent: Any) -> dict[str, Any]:
    """Return the models that count what they draw, by role: those on JAX. On PyTorch one generator serves all."""
    return {role: each for role, each in agent.models.items() if each is not None and not keeps_itself(type(each))}


@final
class TracedActs:
    """Has a process that resumes compile an agent's functions as the one before it did.

    `act` of a model on JAX counts in Python, and what it draws with comes of the count; without parameters it takes the
    model's own. While a function that calls it is compiled, both become constants of that function. A process that
    resumes compiles anew: each such call is given what it had then, and is not counted again.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: Any) -> None:
        self._models = counting_models(agent)
        self._seen: dict[str, dict[str, Any]] = {}
        self._to_come: dict[str, dict[str, Any]] = {}

    def install(self) -> None:
        """Put a call before the `act` of each model."""
        for role, model in self._models.items():
            vars(model)["act"] = self._act(role, model, model.act)

    def remove(self) -> None:
        """Let the models have their own calls again."""
        for model in self._models.values():
            vars(model).pop("act", None)

    def _act(self, role: str, model: Any, own: Callable[..., Any]) -> Callable[..., Any]:
        def act(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not _is_traced(inputs, args, kwargs):
                return own(inputs, *args, **kwargs)
            takes_own = kwargs.get("params", args[1] if len(args) > 1 else None) is None
            call = f"{role}{' by its own parameters' if takes_own else ''}: {_outline(inputs)}"
            then = self._to_come.pop(call, None)
            if then is None:
                self._seen[call] = {"counts": _counts(model), "params": model.state_dict.params if takes_own else None}
                return own(inputs, *args, **kwargs)
            with _as_it_was(model, then):
                return own(inputs, *args, **kwargs)

        return act

    def state_dict(self) -> dict[str, Any]:
        """Return what each call was compiled with last, by what it was given."""
        return {
            call: {"counts": dict(of["counts"]), "params": _on_host(of["params"])} for call, of in self._seen.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have the calls to come compiled with it."""
        self._seen = {
            call: {"counts": {name: int(count) for name, count in of["counts"].items()}, "params": of["params"]}
            for call, of in state.items()
        }
        self._to_come = dict(self._seen)


def _counts(model: Any) -> dict[str, int]:
    return {name: value for name, value in vars(model).items() if name.endswith("_i") and type(value) is int}


@contextlib.contextmanager
def _as_it_was(model: Any, then: Mapping[str, Any]) -> Iterator[None]:
    """Give a model the counts, and the parameters if there are any, that it had; for the duration of a call."""
    counts, held = _counts(model), model.state_dict
    vars(model).update(then["counts"])
    if then["params"] is not None:
        tree: Any = sys.modules["jax"].tree_util
        arrays = [sys.modules["jax"].numpy.asarray(leaf) for leaf in tree.tree_leaves(then["params"])]
        model.state_dict = held.replace(params=tree.tree_unflatten(tree.tree_structure(held.params), arrays))
    try:
        yield
    finally:
        vars(model).update(counts)
        model.state_dict = held


def _on_host(params: Any) -> Any:
    """Return parameters as NumPy arrays in dicts, None where there are none."""
    if isinstance(params, Mapping):
        return {str(key): _on_host(child) for key, child in params.items()}
    return None if params is None else host_array(params)


def _outline(inputs: Any) -> str:
    """Return the names and shapes of what a model is given."""
    return ", ".join(f"{name} {tuple(getattr(inputs[name], 'shape', ()))}" for name in sorted(inputs))


def _is_traced(*given: Any) -> bool:
    jax = sys.modules["jax"]
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree_util.tree_leaves(given))
