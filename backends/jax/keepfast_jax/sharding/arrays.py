"""Arrays of which each process has a part, as ``jax.distributed`` has them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from keepfast import LoadMismatch, ShardedArray

_HOST = "pinned_host"
"""The kind of memory that accelerators copy to behind what they compute."""


def is_spread(array: object) -> bool:
    """Say whether this process has only a part of an array, or others have it too."""
    return isinstance(array, jax.Array) and not isinstance(array, jax.core.Tracer) and not array.is_fully_addressable


def sharded(array: jax.Array, *, shared: bool) -> ShardedArray:
    """Return what this process has of an array, in a copy that no donation reaches, on the host where it is another's.

    The copy is under way when this returns; nothing waits for it but who reads it.

    Args:
        array: the array.
        shared: whether it may be the array itself, for whoever is done with it before anything donates it.
    """
    if shared:
        return ShardedArray(tuple(array.shape), np.dtype(array.dtype), array)
    sharding, devices = array.sharding, list[Any](array.sharding.addressable_devices)
    kinds = {memory.kind for device in devices for memory in device.addressable_memories()}
    if _HOST in kinds and any(device.platform != "cpu" for device in devices):
        sharding = sharding.with_memory_kind(_HOST)
    held = jax.device_put(array, sharding, may_alias=False)
    return ShardedArray(tuple(array.shape), np.dtype(array.dtype), held)


def spread_like(own: jax.Array, whole: Any) -> jax.Array:
    """Return an array, spread as another one is, with the numbers of a whole one; no process asks another.

    Args:
        own: the other array, of which the dtype is taken too.
        whole: of its shape.

    Raises:
        LoadMismatch: if it is of another shape.
    """
    values = np.asarray(whole, own.dtype)
    if values.shape != own.shape:
        raise LoadMismatch(f"the array has the shape {own.shape}, the file has {values.shape}")
    made: jax.Array = jax.make_array_from_callback(own.shape, own.sharding, lambda places: values[places].copy())
    return made
