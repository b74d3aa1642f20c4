"""DTensors, of which each process has a part: parameters under FSDP2 or tensor parallelism, and optimizers' states."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from numpy.typing import NDArray

from keepfast import LoadMismatch, ShardedArray, UnsupportedModule
from keepfast.codec import dtype_of


@final
@dataclass(frozen=True)
class Piece:
    """A rectangular part of a tensor.

    Attributes:
        offsets: where it begins along each axis.
        array: its numbers.
    """

    offsets: tuple[int, ...]
    array: NDArray[Any]


PLAIN = (torch.Tensor, torch.nn.Parameter)
"""The common types of tensor, which are surely no wrappers of others, and have memory of their own."""


def is_spread(tensor: object) -> bool:
    """Say whether a tensor is a DTensor; none is where their package was never imported."""
    if type(tensor) in PLAIN:
        return False
    package = sys.modules.get("torch.distributed.tensor")
    return package is not None and isinstance(tensor, package.DTensor)


def local_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process has of a DTensor, its memory shared; any other tensor itself."""
    if not is_spread(tensor):
        return tensor
    with torch.no_grad():
        local: torch.Tensor = tensor.detach().to_local()  # type: ignore[attr-defined]
    return local


def require_parts(tensor: torch.Tensor, path: str) -> None:
    """Check that a DTensor has numbers of its own in each process.

    Raises:
        UnsupportedModule: if they are yet to be added up; names the path.
    """
    if any(placement.is_partial() for placement in tensor.placements):  # type: ignore[attr-defined]
        raise UnsupportedModule(
            f"`{path}` is a DTensor whose parts are yet to be added up (`Partial`), so that no process has its "
            "numbers; redistribute it first"
        )


def sharded(tensor: torch.Tensor, copy: Callable[[torch.Tensor], NDArray[Any]]) -> ShardedArray:
    """Return what this process has of a DTensor, on the host; nothing where one before it has the same part.

    Args:
        tensor: the DTensor.
        copy: makes an array of a tensor.
    """
    local = local_of(tensor)
    own = [offsets_of(tensor)] if local.numel() and _has_it_first(tensor) else []
    pieces = tuple(Piece(offsets, copy(local)) for offsets in own)
    return ShardedArray(tuple(tensor.shape), dtype_of(str(tensor.dtype).removeprefix("torch.")), pieces)


def _has_it_first(tensor: torch.Tensor) -> bool:
    """Say whether of all processes with the same part of a DTensor this is the first."""
    places = zip(tensor.device_mesh.get_coordinate() or (), tensor.placements, strict=False)  # type: ignore[attr-defined]
    return all(place == 0 for place, placement in places if placement.is_replicate())


def offsets_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return where in a DTensor the part of this process begins, as PyTorch's own checkpoints tell it."""
    chunks: Sequence[Any] = tensor.__create_chunk_list__()  # type: ignore[attr-defined]
    if len(chunks) != 1 or tuple(chunks[0].sizes) != tuple(local_of(tensor).shape):
        raise UnsupportedModule(
            f"a DTensor is spread as {tensor.placements}, of which this process has {len(chunks)} parts; allowed: one"  # type: ignore[attr-defined]
        )
    return tuple(chunks[0].offsets)


def spread_like(own: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return a DTensor, spread as another one is, with the numbers of a whole tensor; no process asks another.

    Args:
        own: the other DTensor.
        whole: of its shape, on any device.

    Raises:
        LoadMismatch: if it is of another shape.
    """
    if whole.shape != own.shape:
        raise LoadMismatch(f"the tensor has the shape {tuple(own.shape)}, the file has {tuple(whole.shape)}")
    with torch.no_grad():
        made = torch.empty_like(own.detach(), dtype=whole.dtype)
        local = local_of(made)
        if local.numel():
            places = zip(offsets_of(made), local.shape, strict=True)
            local.copy_(whole[tuple(slice(start, start + size) for start, size in places)])
    return made


def spread_states(parameters: Sequence[torch.Tensor], state: Any) -> Any:
    """Return an optimizer's state in which whatever is shaped as a parameter that is spread is spread as that is."""
    if not any(map(is_spread, parameters)):
        return state
    entries = dict(state["state"])
    for number, entry in entries.items():
        own = parameters[number] if isinstance(number, int) and number < len(parameters) else None
        if own is not None and is_spread(own) and isinstance(entry, dict):
            entries[number] = {key: _spread_as(own, value) for key, value in entry.items()}
    return {**state, "state": entries}


def _spread_as(own: torch.Tensor, value: Any) -> Any:
    alike = isinstance(value, torch.Tensor) and not is_spread(value) and value.dim() and value.shape == own.shape
    return spread_like(own, value) if alike else value
