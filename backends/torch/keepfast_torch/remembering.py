"""Remembers tensors: their values, their memory and their gradients, so that a load that fails can be undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from keepfast._system.memory.room import memory_for
from keepfast_torch.arrays import DTYPES, with_bits
from keepfast_torch.modes import is_mode_on, outside, writable
from keepfast_torch.overlapping import memory_of
from keepfast_torch.sharding.tensors import PLAIN, is_spread, local_of
from keepfast_torch.uninitialized import Uninitialized, is_lazy, remember_uninitialized


def place_of(tensor: object) -> int | None:
    """Return the address of a tensor's memory; None of anything else, and of what has no memory of this kind."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_meta:
        return None
    if type(tensor) in PLAIN:
        return _address(tensor)
    if isinstance(tensor, Uninitialized):
        return None
    if is_spread(tensor):
        return place_of(local_of(tensor))
    return 0 if is_lazy(tensor) else _address(tensor)


def _address(tensor: torch.Tensor) -> int | None:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # it is made of other tensors, or stands for values to come
        return None


def exposed(tensor: Any) -> NDArray[Any] | None:
    """Return the memory of a tensor to write to, of which autograd and whoever looks at its version are told."""
    if type(tensor) not in PLAIN or is_mode_on():
        return None
    if not tensor.is_cpu or tensor.layout != torch.strided or tensor.dtype not in DTYPES or tensor.is_inference():
        return None
    if not tensor.is_contiguous() or tensor.is_neg() or tensor.is_conj() or place_of(tensor) in (None, 0):
        return None
    torch.autograd.graph.increment_version(tensor)
    return with_bits(tensor.detach()).numpy()


def remember(tensor: torch.Tensor, *, numbers: bool = True) -> Callable[[], None]:
    """Return what gives a tensor its present values back, in the memory that it has now; they are kept on the host.

    Args:
        tensor: the tensor.
        numbers: whether to keep its values, and not its memory and its gradient alone.
    """
    if type(tensor) not in PLAIN:
        if is_lazy(tensor):
            return remember_uninitialized(tensor)
        if is_spread(tensor):
            return remember(local_of(tensor), numbers=numbers)
    if not is_mode_on():
        return _remembered(tensor, numbers=numbers)
    with outside():
        return _remembered(tensor, numbers=numbers)


def _remembered(tensor: torch.Tensor, *, numbers: bool) -> Callable[[], None]:
    data, gradient = tensor.data, tensor.grad if tensor.is_leaf else None
    kept = _copied(memory_of(data)) if numbers else None
    gradients = None if gradient is None else gradient.data

    def back() -> None:
        with outside(), writable(tensor, data):
            if (tensor.data_ptr(), tensor.shape, tensor.stride()) != (data.data_ptr(), data.shape, data.stride()):
                tensor.data = data
            if kept is not None:
                memory_of(data).copy_(kept)
            if gradient is not None and gradients is not None and tensor.grad is not gradient:
                gradient.data = gradients
                tensor.grad = gradient

    return back


def _copied(span: torch.Tensor) -> torch.Tensor:
    if not span.nbytes:  # of which PyTorch makes no view with another dtype
        return span.clone()
    memory = memory_for(int(span.nbytes))  # a tensor itself, while `torch.jit.trace` is on
    return torch.from_numpy(memory).view(span.dtype).copy_(span)
