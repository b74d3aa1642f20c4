"""Where a process stands among those of a distributed run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from keepfast._system.warnings import warn
from keepfast.plugins.backends import group_ranks

_Setting = bool | Literal["auto"] | Mapping[str, int]


@final
@dataclass(frozen=True)
class Place:
    """A process's place.

    Attributes:
        rank: its rank, 0 where it runs alone.
        told_by: what told it, in words.
        is_alone: whether it is a run of its own.
    """

    rank: int
    told_by: str
    is_alone: bool = False

    @property
    def first(self) -> bool:
        """Say whether this process is the one that writes."""
        return self.rank == 0

    def tell(self, directory: Path) -> None:
        """Tell, of a process that is not the first, what it does not write, and why."""
        if not self.first:
            warn(
                f"this process takes itself for rank {self.rank} of a distributed run, as told by {self.told_by}: "
                f"it writes neither metrics nor checkpoints into `{directory}`, which the process of rank 0 does; but "
                "of modules that are spread over processes, each writes its own part. "
                "Where it is a run of its own, set `distributed` to False"
            )


@final
class Standing:
    """Whether this process is the one that writes a run, which may show late: when a process group comes to be.

    Args:
        distributed: the setting of that name.
        directory: the run's directory.
        on_aside: called when a process that took itself for the first turns out not to be, before that is told.

    Attributes:
        first: whether this process is the one that writes.
        rank: its rank, 0 where it runs alone.
        certain: whether it wrote already, so that it is not looked at again.
    """

    def __init__(self, distributed: _Setting, directory: Path, on_aside: Callable[[], object]) -> None:
        self._distributed, self._directory, self._on_aside = distributed, directory, on_aside
        place = place_of(distributed)
        self.first, self.rank, self.certain = place.first, place.rank, False
        place.tell(directory)

    def look_again(self) -> None:
        """Look whether another process is the first after all; costs next to nothing once this one has written."""
        if self.first and not self.certain:
            place = place_of(self._distributed)
            self.first, self.rank = place.first, place.rank
            if not place.first:
                self._on_aside()
                place.tell(self._directory)


def place_of(distributed: _Setting) -> Place:
    """Return this process's place, as the setting ``distributed`` says, or as it is found where that is "auto".

    A framework's process group tells, or else a launcher that sets RANK, with a WORLD_SIZE above 1. What SLURM sets is
    no sign of a distributed run: it numbers independent programs alike.
    """
    if isinstance(distributed, Mapping):
        return Place(distributed["rank"], f"the setting `distributed` ({dict(distributed)})")
    if not distributed:
        return Place(0, "the setting `distributed`", is_alone=True)
    if ranks := group_ranks():
        name, rank = max(ranks.items(), key=lambda item: item[1])
        return Place(rank, f"the process group of `{name}`")
    rank, size = _number("RANK"), _number("WORLD_SIZE")
    return _ALONE if size <= 1 else Place(rank, f"RANK={rank} and WORLD_SIZE={size} in the environment")


_ALONE = Place(0, "nobody", is_alone=True)


def _number(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else 0
