"""Keeps the steps of environments that give tensors."""

from __future__ import annotations

from typing import Any, final

import torch
from numpy.typing import NDArray

from keepfast import InvalidValue, SingleSteps, Step, StepBuffer, Steps, device_capacity
from keepfast_torch.arrays import NATIVE, fetch, require_memory
from keepfast_torch.modes import dispatch_modes, outside_of_modes, transforms


def step_buffer(step: Step, capacity: int) -> StepBuffer | None:
    """Return the buffer for tensors like these, or None where they are not all tensors."""
    if not all(isinstance(part, torch.Tensor) for part in step):
        return None
    if all(part.is_cpu and part.numel() == 1 for part in step):
        return SingleSteps(step)
    on_host = all(part.is_cpu for part in step)
    return TensorSteps(step, capacity if on_host else device_capacity(step[0].numel()))


@final
class TensorSteps(StepBuffer):
    """Copies tensors into tensors made beforehand on their devices, and transfers those at once."""

    def __init__(self, step: Step, capacity: int) -> None:
        self.capacity = capacity
        self._stores = [torch.empty((capacity, *part.shape), dtype=part.dtype, device=part.device) for part in step]
        self._on_host = all(store.is_cpu and store.dtype in NATIVE for store in self._stores)
        self._arrays = [store.numpy() for store in self._stores] if self._on_host else None  # of the same memory
        self._rows = [[store[row] for store in self._stores] for row in range(capacity)]
        self._count = 0

    def add(self, rewards: Any, terminated: Any, truncated: Any) -> None:  # noqa: D102  (the interface's)
        if transforms() is not None or dispatch_modes() > 0:  # `are_transformed`, without the price of its call
            raise InvalidValue("the steps are not to be copied by a transform; they are held one by one")
        if not (rewards.data_ptr() and terminated.data_ptr() and truncated.data_ptr()):
            for part in (rewards, terminated, truncated):
                require_memory(part)
        if rewards.requires_grad:
            rewards = rewards.detach()
        # One call costs half of three. It is what torch.optim's own "foreach" implementations are made of.
        torch._foreach_copy_(self._rows[self._count], [rewards, terminated, truncated])
        self._count += 1

    def take(self) -> Steps:  # noqa: D102  (the interface's)
        count, self._count = self._count, 0
        if self._arrays is not None:
            rewards, terminated, truncated = (array[:count].reshape(count, -1) for array in self._arrays)
        else:
            rewards, terminated, truncated = self._fetched(count)
        return rewards, terminated.astype(bool, copy=False) | truncated.astype(bool, copy=False)

    @outside_of_modes
    def _fetched(self, count: int) -> list[NDArray[Any]]:
        return fetch([store[:count].reshape(count, -1) for store in self._stores])
