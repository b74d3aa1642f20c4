"""What the processes of a group give each other: small things, over the host, whatever the group itself trains with."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, final

import torch
import torch.distributed as dist

_HEADER = 8
"""How many bytes tell the length of what follows."""

_CAPACITY = 16_384
"""How many bytes each process gives at first, whether it has as many or not: one collective is enough then."""


def exchange(payload: bytes, seconds: float) -> list[bytes]:
    """Return what each process of the default group gave, by rank; see `Backend.exchange`.

    Raises:
        RuntimeError: if a process is gone, or does not come in time; there is no further exchange in this group then.
    """
    global _channel
    if not (dist.is_available() and dist.is_initialized()):
        return [payload]
    channel, _channel = _channel, None  # one that fails is of no further use
    if channel is None or not channel.is_of(dist.group.WORLD, seconds):
        channel = _Channel(dist.group.WORLD, seconds)
    given = channel.exchange(payload)
    _channel = channel
    return given


@final
class _Channel:
    """A group of its own beside the default one: on the host, so that no device waits, and with its own patience.

    Args:
        world: the default group.
        seconds: how long the others are waited for.
    """

    def __init__(self, world: Any, seconds: float) -> None:
        self._made_for = weakref.ref(world), seconds
        self._group: Any = dist.new_group(backend="gloo", timeout=timedelta(seconds=seconds))
        self._size, self._capacity = dist.get_world_size(), _CAPACITY

    def is_of(self, world: Any, seconds: float) -> bool:
        """Say whether the default group is still the one it was made beside, and the patience the same."""
        made_beside, patience = self._made_for
        return made_beside() is world and patience == seconds

    def exchange(self, payload: bytes) -> list[bytes]:
        """Return what each process gave; where one gives more than there is room for, all make more room and repeat."""
        while True:
            rows = self._gather(payload)
            lengths = [int.from_bytes(row[:_HEADER], "little") for row in rows]
            if max(lengths) + _HEADER <= self._capacity:
                return [row[_HEADER : _HEADER + length] for row, length in zip(rows, lengths, strict=True)]
            self._capacity = 1 << (max(lengths) + _HEADER).bit_length()

    def _gather(self, payload: bytes) -> Sequence[bytes]:
        row = (len(payload).to_bytes(_HEADER, "little") + payload)[: self._capacity].ljust(self._capacity, b"\0")
        own = torch.frombuffer(bytearray(row), dtype=torch.uint8)
        rows = [torch.empty(self._capacity, dtype=torch.uint8, device="cpu") for _ in range(self._size)]
        dist.all_gather(rows, own, group=self._group)
        return [each.numpy().tobytes() for each in rows]


_channel: _Channel | None = None
