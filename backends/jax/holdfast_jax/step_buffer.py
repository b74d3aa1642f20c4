"""Keeps the steps of environments that give JAX arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from holdfast.step_buffer import Step, StepBuffer, Steps, joined

GROUP = 32
"""How many steps one compiled call joins: enough to share the price of a call, few enough to compile quickly."""

Fetch = Callable[[Sequence[Any]], list[NDArray[Any]]]


@final
class ArraySteps(StepBuffer):
    """Keeps JAX arrays themselves, which nobody can change, and joins them on their device before they are transferred.

    Args:
        fetch: transfers single arrays; raises `UsageError` where one was deleted or donated.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._steps: list[Step] = []

    def add(self, rewards: Any, terminated: Any, truncated: Any) -> None:  # noqa: D102  (the interface's)
        self._steps.append((rewards, terminated, truncated))

    def take(self) -> Steps:  # noqa: D102  (the interface's)
        steps, self._steps = self._steps, []
        groups = [steps[start : start + GROUP] for start in range(0, len(steps), GROUP)]
        parts = [self._join(group) for group in groups]
        return np.concatenate([rewards for rewards, _ in parts]), np.concatenate([done for _, done in parts])

    def _join(self, group: list[Step]) -> Steps:
        if len(group) < GROUP or any(array.is_deleted() for step in group for array in step):
            return self._join_fetched(group)
        try:
            rewards, done = _joined_on_device(*zip(*group, strict=True))
        except ValueError:  # they are on different devices
            return self._join_fetched(group)
        return np.asarray(rewards), np.asarray(done)

    def _join_fetched(self, group: list[Step]) -> Steps:
        fetched = self._fetch([array for step in group for array in step])
        return joined([fetched[0::3], fetched[1::3], fetched[2::3]])


@jax.jit
def _joined_on_device(
    rewards: Sequence[jax.Array], terminated: Sequence[jax.Array], truncated: Sequence[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Return what `joined` returns."""
    stacked = (jnp.stack(part).reshape(len(part), -1) for part in (rewards, terminated, truncated))
    all_rewards, all_terminated, all_truncated = stacked
    return all_rewards, all_terminated.astype(bool) | all_truncated.astype(bool)
