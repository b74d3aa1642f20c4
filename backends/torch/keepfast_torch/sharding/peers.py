"""TorchPeers: the processes of a process group talk over one of their own, on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, final

import torch.distributed as dist

from keepfast import Peers, WriteFailed


@final
class TorchPeers(Peers):
    """A conversation over gloo, which training's own collectives do not meet, whatever thread it is in.

    Attributes:
        group: the process group.
    """

    def __init__(self) -> None:
        self.group: Any = dist.new_group(backend="gloo", timeout=timedelta(seconds=self.patience))
        self.rank, self.size = dist.get_rank(self.group), dist.get_world_size(self.group)

    def share(self, value: Any) -> Any:
        """Return what the first process gives."""
        said = [value]
        with _told():
            dist.broadcast_object_list(said, src=0, group=self.group)
        return said[0]

    def gather(self, value: Any) -> list[Any] | None:
        """Return, in the first process, what each gives."""
        said: list[Any] | None = [None] * self.size if self.first else None
        with _told():
            dist.gather_object(value, said, dst=0, group=self.group)
        return said

    def close(self) -> None:
        """Give the group up."""
        dist.destroy_process_group(self.group)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Have a peer that is gone, or silent for too long, be an error of storing."""
    try:
        yield
    except RuntimeError as error:
        raise WriteFailed(
            f"the processes of this run cannot agree on a checkpoint, since one is gone or does not answer: {error}"
        ) from error


def peers() -> TorchPeers | None:
    """Return a conversation of the default process group, or None where there is none, or this process is alone."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    return TorchPeers()
