"""What the processes of a distributed run tell each other at a write: what each of them tracked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from keepfast._system.warnings import warn
from keepfast.config import ExperimentConfig
from keepfast.errors import UsageError
from keepfast.interfaces.backend import Backend
from keepfast.plugins.backends import grouped
from keepfast.runs.processes.place import place_of


@final
class Exchange:
    """Brings together what the processes of a distributed run have; each gets what all gave, by rank.

    A process that is gone, or does not come in time, ends it for the rest of the run, which is told: this process goes
    on with what it has itself.

    Args:
        config: the experiment's settings.
        directory: returns the run's directory, which is that of all of them where it was given a name.

    Attributes:
        has_ended: whether another process was waited for in vain.
    """

    def __init__(self, config: ExperimentConfig, directory: Callable[[], Path]) -> None:
        self._seconds, self._directory = config.distributed_seconds, directory
        self._is_alone = config.distributed is False
        self._size = config.distributed["world_size"] if isinstance(config.distributed, Mapping) else None
        self._distributed, self._is_named = config.distributed, bool(config.experiment_name)
        self.has_ended = self._was_on = False

    @property
    def is_on(self) -> bool:
        """Say whether there are processes to exchange anything with."""
        return self._group() is not None

    def _group(self) -> Backend | None:
        return None if self.has_ended or self._is_alone else grouped()

    def tell_missing(self, what: str) -> None:
        """Tell, once, where there are other processes and no process group, and so what is not brought together."""
        if self.has_ended or self.is_on or (not self._was_on and place_of(self._distributed).is_alone):
            return
        self.has_ended = True
        warn(
            f"{what} of this process alone, since there is no process group"
            + (
                " any more: close the experiment before the group"
                if self._was_on
                else ": make one before the experiment"
            )
        )

    def together(self, about: str, timestep: int, own: Any) -> list[Any] | None:
        """Return what each process gave, by rank; None where another was waited for in vain, which is told.

        Args:
            about: what it is about, in words; all processes are to be at the same thing.
            timestep: the completed timesteps, which are to be the same for all.
            own: what this process gives: plain numbers, texts, lists and dicts.
        """
        backend = self._group()
        if backend is None:
            return None
        self._was_on = True
        at = [about, timestep, self._directory().name if self._is_named else None]
        try:
            given = backend.exchange(json.dumps([at, own]).encode(), self._seconds)
            shares = [json.loads(each) for each in given]
            self._require_same(at, [at_rank for at_rank, _ in shares])
        except Exception as error:  # noqa: BLE001  (whatever a framework raises; the run goes on)
            self.has_ended = True
            reason = str(error).strip().splitlines() or [type(error).__name__]
            warn(
                f"the processes of this distributed run could not be brought together for {about} at timestep "
                f"{timestep}: {reason[0]:.300}. From now on each goes on by itself, and rank 0 writes what it has "
                "itself; `distributed_seconds` says how long they wait for each other"
            )
            return None
        return [share for _, share in shares]

    def _require_same(self, at: list[Any], others: list[list[Any]]) -> None:
        if self._size not in (None, len(others)):
            raise UsageError(
                f"`distributed` tells of {self._size} processes, and the process group has {len(others)}; give each "
                'run a process group of its own, or set `distributed_metrics` and `distributed_memories` to "first"'
            )
        for rank, other in enumerate(others):
            if other != at:
                raise UsageError(
                    f"rank {rank} is at {_told(other)}, and this process at {_told(at)}; all of them take the same "
                    "steps, in one run, with the same intervals"
                )


def _told(at: list[Any]) -> str:
    about, timestep, name = at
    return f"{about} of timestep {timestep}" + (f" in `{name}`" if name else "")
