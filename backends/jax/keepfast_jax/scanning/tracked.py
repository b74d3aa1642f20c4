"""What a loop's function tracks: numbers by tag and the steps of environments, told apart and checked while traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from keepfast import InvalidValue, ShapeMismatch


@final
class Transitions(NamedTuple):
    """One step of every environment, as `keepfast.Experiment.record_transition` takes it.

    It stands under any key of what a function given to `keepfast_jax.scan` tracks.

    Attributes:
        rewards: of shape (num_envs,) or (num_envs, 1), or a number for one environment.
        terminated: of as many elements; whether the episode ended in a terminal state.
        truncated: of as many elements; whether it was cut short.
        valid: of as many elements; whether the row is a transition; all are if None.
    """

    rewards: Any
    terminated: Any
    truncated: Any
    valid: Any = None


@final
@dataclass(frozen=True)
class Layout:
    """What is tracked at each step of one loop.

    Attributes:
        tags: the numbers' tags.
        num_envs: the number of environments, or None where there are no transitions.
        dtype: what numbers are added up in.
    """

    tags: tuple[str, ...]
    num_envs: int | None
    dtype: Any

    @classmethod
    def of(cls, tracked: Any) -> Layout:
        """Return the layout of what a function returned while it was traced.

        Raises:
            InvalidValue: if it is no dictionary of single numbers by tag; names the tag.
            ShapeMismatch: if the parts of transitions have different numbers of elements.
        """
        if not isinstance(tracked, Mapping):
            raise InvalidValue(
                f"the function given to `keepfast_jax.scan` tracks a {type(tracked).__qualname__}; allowed: a "
                "dictionary of numbers by tag, which may hold `keepfast_jax.Transitions`"
            )
        steps = [key for key, value in tracked.items() if isinstance(value, Transitions)]
        if len(steps) > 1:
            raise InvalidValue(
                f"transitions are tracked as {' and as '.join(map(repr, steps))}; allowed: one `Transitions`, with all "
                "environments in it"
            )
        for tag, value in tracked.items():
            if tag not in steps:
                _check_number(tag, value)
        num_envs = _check_transitions(tracked[steps[0]]) if steps else None
        tags = tuple(tag for tag in tracked if tag not in steps)
        return cls(tags, num_envs, jnp.zeros((), float).dtype)

    def part(self, tracked: Mapping[str, Any]) -> tuple[jax.Array, Transitions | None]:
        """Return the numbers of one step, in the order of the tags, and its transitions, flat.

        Raises:
            InvalidValue: if it has other tags than the step that the layout is of; names them.
        """
        own = Layout.of(tracked)
        if set(own.tags) != set(self.tags) or own.num_envs != self.num_envs:
            odd = sorted(set(own.tags) ^ set(self.tags)) or ["its transitions"]
            raise InvalidValue(
                f"what the function given to `keepfast_jax.scan` tracks changes from one trace to the next: "
                f"{', '.join(odd)}; track the same tags at each step"
            )
        numbers = [jnp.asarray(tracked[tag]).reshape(()).astype(self.dtype) for tag in self.tags]
        transitions = next((value for value in tracked.values() if isinstance(value, Transitions)), None)
        stacked = jnp.stack(numbers) if numbers else jnp.zeros(0, self.dtype)
        return stacked, None if transitions is None else self._flat(transitions)

    def _flat(self, transitions: Transitions) -> Transitions:
        def flags(part: Any) -> Any:
            return None if part is None else jnp.asarray(part).reshape(-1).astype(bool)

        rewards = jnp.asarray(transitions.rewards).reshape(-1).astype(self.dtype)
        return Transitions(rewards, *map(flags, transitions[1:]))


def _check_number(tag: object, value: Any) -> None:
    if not isinstance(tag, str):
        raise InvalidValue(f"a tag is {tag!r:.80} ({type(tag).__name__}); allowed: a string")
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        raise InvalidValue(
            f"the value of `{tag}` is a {type(value).__qualname__}; allowed: a single number, and `Transitions`"
        )
    if any(size != 1 for size in shape):
        raise InvalidValue(
            f"the value of `{tag}` has the shape {tuple(shape)}; allowed: a single number; take its mean, or another "
            "statistic, inside the loop"
        )
    if not _is_real(dtype):
        raise InvalidValue(f"the value of `{tag}` has the dtype {dtype}; allowed: real numbers")


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def _check_transitions(transitions: Transitions) -> int:
    """Return the number of environments."""
    named = {name: part for name, part in transitions._asdict().items() if part is not None}
    odd = [name for name, part in named.items() if not hasattr(part, "shape")]
    if odd or len(named) < 3:
        missing = [name for name in ("rewards", "terminated", "truncated") if name not in named]
        raise InvalidValue(
            f"`Transitions` has {', '.join(odd + missing)} that are no arrays; allowed: one array each, with a row for "
            "each environment"
        )
    sizes = {name: part.size for name, part in named.items()}
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        listing = ", ".join(f"{name} {tuple(part.shape)}" for name, part in named.items())
        raise ShapeMismatch(f"`Transitions` has {listing}; expected the same number of elements in each, at least 1")
    if not _is_real(transitions.rewards.dtype):
        raise InvalidValue(f"`Transitions` has rewards of dtype {transitions.rewards.dtype}; allowed: real numbers")
    return int(transitions.rewards.size)
