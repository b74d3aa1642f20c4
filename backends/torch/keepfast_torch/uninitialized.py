"""Parameters and buffers that have no shape yet: a load gives them that of the file, as ``load_state_dict`` does."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, final

import torch

from keepfast import UsageError
from keepfast_torch.modes import outside

is_lazy = torch.nn.parameter.is_lazy


@final
class Uninitialized(torch.Tensor):
    """Stands in a captured state for what has no values yet; it has the dtype and no number."""


def with_stand_ins(state: MutableMapping[str, Any]) -> None:
    """Put what stands for it into the place of whatever of a state dict has no shape yet."""
    for key, value in state.items():
        if is_lazy(value):
            state[key] = stand_in(value)


def stand_in(tensor: torch.Tensor) -> Uninitialized:
    """Return what stands for a tensor that has no shape yet."""
    return torch.empty(0, dtype=tensor.dtype).as_subclass(Uninitialized)


def require_values(tensor: torch.Tensor, path: str) -> None:
    """Check that a tensor of a captured state does not stand for one that has no values yet.

    Raises:
        UsageError: if it does; names its path.
    """
    if isinstance(tensor, Uninitialized):
        raise UsageError(f"`{path}` is not initialized yet; run the module once before it is saved")


def remember_uninitialized(tensor: torch.Tensor) -> Callable[[], None]:
    """Return what takes the shape from a tensor again that a load has given it."""
    kind, data = type(tensor), tensor.data

    def back() -> None:
        if not is_lazy(tensor):
            with outside():
                tensor.data, tensor.grad = data, None
            tensor.__class__ = kind

    return back
