"""Keeps the steps of environments that give JAX arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from keepfast.interfaces.step_buffer import Step, StepBuffer, Steps, device_capacity, joined_steps
from keepfast_jax.arrays import host_views
from keepfast_jax.modes import outside_of_modes

GROUP = 32
"""How many steps one compiled call joins: enough to share the price of a call, few enough to compile quickly."""


@final
class ArraySteps(StepBuffer):
    """Keeps JAX arrays themselves, which nobody can change, and joins them on their device before a transfer."""

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self._steps: list[Step] = []

    def add(self, rewards: Any, terminated: Any, truncated: Any) -> None:  # noqa: D102  (the interface's)
        self._steps.append((rewards, terminated, truncated))

    @outside_of_modes
    def take(self) -> Steps:  # noqa: D102  (the interface's)
        steps, self._steps = self._steps, []
        groups = [steps[start : start + GROUP] for start in range(0, len(steps), GROUP)]
        # All groups are joined before the first is waited for, so that there is one wait for the device.
        views = host_views([array for group in groups for array in _join(group)])
        return np.concatenate(views[0::2]), np.concatenate(views[1::2])


def step_buffer(step: Step, capacity: int) -> StepBuffer | None:
    """Return the buffer for arrays like these, or None where they are not all JAX arrays."""
    if not all(isinstance(part, jax.Array) for part in step):
        return None
    on_host = all(device.platform == "cpu" for part in step for device in part.devices())
    return ArraySteps(capacity if on_host else device_capacity(step[0].size))


def _join(group: list[Step]) -> tuple[Any, Any]:
    """Return what `joined_steps` returns, as JAX arrays where they can be joined on their device."""
    if len(group) == GROUP and not any(array.is_deleted() for step in group for array in step):
        with contextlib.suppress(ValueError):  # they are on different devices
            rewards, done = _joined_on_device(*zip(*group, strict=True))
            return rewards, done
    views = host_views([array for step in group for array in step])
    return joined_steps([views[0::3], views[1::3], views[2::3]])


@jax.jit
def _joined_on_device(
    rewards: Sequence[jax.Array], terminated: Sequence[jax.Array], truncated: Sequence[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Return what `joined_steps` returns."""
    stacked = (jnp.stack(part).reshape(len(part), -1) for part in (rewards, terminated, truncated))
    all_rewards, all_terminated, all_truncated = stacked
    return all_rewards, all_terminated.astype(bool) | all_truncated.astype(bool)
