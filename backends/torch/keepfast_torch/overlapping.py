"""Tensors that have several numbers at one place in memory, as ``expand`` makes them: PyTorch writes to none."""

from __future__ import annotations

import torch

from keepfast_torch.sharding.tensors import is_spread


def memory_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of one dimension over the memory from a tensor's first number to its last, each once."""
    if tensor.is_conj():
        tensor = tensor.conj()
    if tensor.is_neg():
        tensor = torch._neg_view(tensor)  # noqa: SLF001  (nothing public takes the sign off that is yet to be turned)
    if tensor.numel() == 0:
        return tensor.reshape(-1)
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((last + 1,), (1,))


def overlaps(tensor: torch.Tensor) -> bool:
    """Say whether a tensor has more numbers than there are in its memory."""
    if is_spread(tensor):
        return False
    return tensor.layout == torch.strided and not tensor.is_meta and tensor.numel() > memory_of(tensor).numel()


def fill(tensor: torch.Tensor, values: torch.Tensor) -> None:
    """Give a tensor that overlaps other values: in its own memory where they fit into it, else in one of their own.

    Args:
        tensor: what to change.
        values: of its shape.
    """
    values = values.to(tensor.device, tensor.dtype)
    physical = (values.conj() if tensor.is_conj() else values).resolve_conj()
    physical = (-physical if tensor.is_neg() else physical).contiguous()
    memory = memory_of(tensor)
    places = torch.arange(memory.numel(), device=tensor.device).as_strided(tensor.shape, tensor.stride())
    written = memory.clone()
    written[places] = physical
    if torch.equal(written[places].view(torch.uint8), physical.view(torch.uint8)):
        memory.copy_(written)
    else:
        tensor.data = values.clone(memory_format=torch.contiguous_format)
