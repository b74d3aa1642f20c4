"""Devices by the names that users give them."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax

from keepfast.errors import InvalidValue

Placement: TypeAlias = "jax.Device | jax.sharding.Sharding"
"""Where an array lives: on one device, or spread over several."""


def parse_device(device: Any) -> Placement | None:
    """Return the device that users name.

    Args:
        device: a ``jax.Device``, a ``jax.sharding.Sharding``, a platform such as ``"cpu"`` or ``"cuda"``, one with an
            index such as ``"cuda:1"``, or None, which is returned as it is.

    Raises:
        InvalidValue: if there is no such device; lists what there is.
    """
    if device is None or isinstance(device, jax.Device | jax.sharding.Sharding):
        return device
    platform, _, index = str(device).partition(":")
    try:
        named: jax.Device = jax.devices(platform)[int(index or 0)]
    except (RuntimeError, ValueError, IndexError) as cause:
        known = ", ".join(f"{found.platform}:{found.id}" for found in jax.devices())
        raise InvalidValue(f"there is no device `{device}`; known: {known}") from cause
    return named
