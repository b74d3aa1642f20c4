"""Remembers tensors: their values, their memory and their gradients, so that a load that fails can be undone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from keepfast_torch.modes import outside, writable
from keepfast_torch.overlapping import memory_of
from keepfast_torch.sharding.tensors import is_spread, local_of
from keepfast_torch.uninitialized import Uninitialized, is_lazy, remember_uninitialized


def place_of(tensor: object) -> int | None:
    """Return the address of a tensor's memory; None of anything else, and of what has no memory of this kind."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_meta:
        return None
    if isinstance(tensor, Uninitialized):
        return None
    if is_spread(tensor):
        return place_of(local_of(tensor))
    if is_lazy(tensor):
        return 0
    try:
        return tensor.data_ptr()
    except RuntimeError:  # it is made of other tensors, or stands for values to come
        return None


def remember(tensor: torch.Tensor) -> Callable[[], None]:
    """Return what gives a tensor its present values back, in the memory that it has now; they are kept on the host."""
    if is_lazy(tensor):
        return remember_uninitialized(tensor)
    if is_spread(tensor):
        return remember(local_of(tensor))
    with outside():
        data, gradient = tensor.data, tensor.grad if tensor.is_leaf else None
        span = memory_of(data)
        kept = span.to("cpu", copy=True)
        gradients = None if gradient is None else gradient.data

    def back() -> None:
        with outside(), writable(tensor, span):
            if (tensor.data_ptr(), tensor.shape, tensor.stride()) != (data.data_ptr(), data.shape, data.stride()):
                tensor.data = data
            span.copy_(kept)
            if gradient is not None and gradients is not None and tensor.grad is not gradient:
                gradient.data = gradients
                tensor.grad = gradient

    return back
