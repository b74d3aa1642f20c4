"""Tracing: how often models on JAX were asked for actions while their agent's functions were compiled."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, final

from keepfast.modules.parts import keeps_itself

COUNTERS = re.compile(r"_\w*(i|key)")
"""What models and noises on JAX call the keys that they draw with, and how often they did."""


def counting_models(agent: Any) -> dict[str, Any]:
    """Return the models that count what they draw, by role: those on JAX. On PyTorch one generator serves all."""
    return {role: each for role, each in agent.models.items() if each is not None and not keeps_itself(type(each))}


@final
class TracedActs:
    """Has a process that resumes compile an agent's functions as the one before it did.

    `act` of a model on JAX counts in Python, and what it draws with comes of the count. While a function that calls it
    is compiled it counts once more, and the function draws alike from then on. A process that resumes compiles anew:
    each such call is given the count that it had then, and is not counted again.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: Any) -> None:
        self._models = counting_models(agent)
        self._seen: dict[str, dict[str, int]] = {}
        self._to_come: dict[str, dict[str, int]] = {}

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
            counts = {name: value for name, value in vars(model).items() if name.endswith("_i") and type(value) is int}
            call = f"{role}: {_outline(inputs)}"
            then = self._to_come.pop(call, None)
            if then is None:
                self._seen[call] = counts
                return own(inputs, *args, **kwargs)
            vars(model).update(then)
            try:
                return own(inputs, *args, **kwargs)
            finally:
                vars(model).update(counts)

        return act

    def state_dict(self) -> dict[str, dict[str, int]]:
        """Return the counts of each call that was compiled last, by what it was given."""
        return {call: dict(counts) for call, counts in self._seen.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have the calls to come counted as they were."""
        self._seen = {call: {name: int(count) for name, count in counts.items()} for call, counts in state.items()}
        self._to_come = dict(self._seen)


def _outline(inputs: Any) -> str:
    """Return the names and shapes of what a model is given."""
    return ", ".join(f"{name} {tuple(getattr(inputs[name], 'shape', ()))}" for name in sorted(inputs))


def _is_traced(*given: Any) -> bool:
    jax = sys.modules["jax"]
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree_util.tree_leaves(given))
