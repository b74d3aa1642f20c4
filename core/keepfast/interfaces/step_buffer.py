"""StepBuffer: keeps what environments give at each step until it is worked off together."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.arguments.guarding import guarded
from keepfast.errors import InvalidValue, as_given

Step = tuple[Any, Any, Any]
"""The rewards of a step, and whether each environment's episode was terminated or truncated; in one of the forms that
`Experiment.record_transition` takes."""

Steps = tuple[NDArray[Any], NDArray[np.bool]]
"""The rewards of several steps, and whether an episode ended, each of shape (steps, num_envs)."""


DEVICE_STEPS = 1024
"""How many steps a buffer on a device keeps at most: the more, the fewer transfers."""

DEVICE_ELEMENTS = 2**24
"""How many rewards those steps hold at most: with both flags, 100 MB of the device's memory in single precision."""


@guarded
def device_capacity(num_envs: int) -> int:
    """Return how many steps of so many environments a buffer on a device keeps."""
    if not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise InvalidValue(f"`num_envs` is {as_given(num_envs)}; allowed: a whole number of at least 1")
    return max(1, min(DEVICE_STEPS, DEVICE_ELEMENTS // num_envs))


class StepBuffer(abc.ABC):
    """Keeps steps as they are when added, without waiting for a device; the steps are alike in shapes and dtypes.

    This runs at every timestep of a training, so an implementation is made for one kind of array. A backend gives its
    own by `Backend.step_buffer`; the smallest, for arrays that nobody changes::

        class FrozenSteps(keepfast.StepBuffer):
            def __init__(self):
                self._steps = []

            def add(self, rewards, terminated, truncated):
                self._steps.append((rewards, terminated, truncated))

            def take(self):
                steps, self._steps = self._steps, []
                return keepfast.joined_steps(zip(*steps))

    Attributes:
        capacity: after how many steps they are taken, or None for as many as `Backend.step_buffer` was told. One that
            keeps steps on a device asks for more, because each time they are taken is a transfer.
    """

    capacity: int | None = None

    @abc.abstractmethod
    def add(self, rewards: Any, terminated: Any, truncated: Any) -> None:
        """Keep one step; its arrays may be changed by their owner afterwards."""

    @abc.abstractmethod
    def take(self) -> Steps:
        """Return all steps in their order, and forget them. The arrays are good until the next call of `add`."""


def joined_steps(parts: Iterable[Sequence[Any]]) -> Steps:
    """Return the rewards, terminated and truncated of several steps, each a sequence of NumPy arrays, as `Steps`."""
    rewards, terminated, truncated = (_stacked(part).reshape(len(part), -1) for part in parts)
    return rewards, terminated.astype(bool) | truncated.astype(bool)


def _stacked(part: Sequence[Any]) -> NDArray[Any]:
    try:
        return np.stack(part)
    except TypeError:  # flags of dtypes that have no common one, as bfloat16 and int4
        return np.stack([np.asarray(each, bool) for each in part])


@final
class SingleSteps(StepBuffer):
    """Keeps the steps of a single environment, numbers or arrays on the host, as Python numbers."""

    def __init__(self, step: Step) -> None:
        self._plain = any(isinstance(part, bool | int | float) for part in step)
        self._rewards: list[float] = []
        self._done: list[bool] = []

    def add(self, rewards: Any, terminated: Any, truncated: Any) -> None:  # noqa: D102  (the interface's)
        if self._plain:
            rewards, terminated, truncated = np.float64(rewards), np.bool_(terminated), np.bool_(truncated)
        reward, done = rewards.item(), terminated.item() or truncated.item()
        self._rewards.append(reward)
        self._done.append(done)

    def take(self) -> Steps:  # noqa: D102  (the interface's)
        rewards, done = np.array(self._rewards, np.float64), np.array(self._done, bool)
        self._rewards, self._done = [], []
        return rewards[:, None], done[:, None]


@final
class HostSteps(StepBuffer):
    """Copies NumPy arrays, or numbers, into arrays made beforehand."""

    def __init__(self, step: Step, capacity: int) -> None:
        self._stores = [np.empty((capacity, *np.shape(part)), np.asarray(part).dtype) for part in step]
        self._count = 0

    def add(self, rewards: Any, terminated: Any, truncated: Any) -> None:  # noqa: D102  (the interface's)
        kept_rewards, kept_terminated, kept_truncated = self._stores
        kept_rewards[self._count] = rewards
        kept_terminated[self._count] = terminated
        kept_truncated[self._count] = truncated
        self._count += 1

    def take(self) -> Steps:  # noqa: D102  (the interface's)
        count, self._count = self._count, 0
        rewards, terminated, truncated = (store[:count].reshape(count, -1) for store in self._stores)
        return rewards, terminated.astype(bool) | truncated.astype(bool)
