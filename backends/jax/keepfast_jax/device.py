"""Devices by the names that users give them."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax

from keepfast import InvalidValue
from keepfast.errors import as_given

Placement: TypeAlias = "jax.Device | jax.sharding.Sharding"
"""Where an array lives: on one device, or spread over several."""


def parse_device(device: Any) -> Placement | None:
    """Return the device that users name, one of this process's own where there are several processes.

    Args:
        device: a ``jax.Device``, a ``jax.sharding.Sharding``, a platform such as ``"cpu"`` or ``"cuda"``, one with an
            index such as ``"cuda:1"``, or None, which is returned as it is.

    Raises:
        InvalidValue: if there is no such device; lists what there is.
    """
    if device is None or isinstance(device, jax.Device | jax.sharding.Sharding):
        return device
    told = device if isinstance(device, str) else as_given(device)  # the text of a freed tensor ends the process
    try:
        platform, _, index = told.partition(":")
        named: jax.Device = dict(enumerate(jax.local_devices(backend=platform)))[int(index or 0)]
    except Exception as cause:
        raise InvalidValue(f"there is no device `{told}`; known: {', '.join(_known())}") from cause
    return named


def _known() -> list[str]:
    platforms = dict.fromkeys((jax.default_backend(), "cpu"))
    return [f"{platform}:{each}" for platform in platforms for each in range(len(jax.local_devices(backend=platform)))]
