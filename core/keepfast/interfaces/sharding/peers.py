"""Peers: how the processes of a run talk, once in a while and about little."""

from __future__ import annotations

import abc
from typing import Any, ClassVar


class Peers(abc.ABC):
    """One conversation of all processes of a run: each makes the same calls in the same order, whatever it has to say.

    What is said is what JSON has. A process that waits for another waits for `patience` seconds at most.

    Attributes:
        rank: this process's number.
        size: how many there are.
    """

    patience: ClassVar[float] = 600.0
    """For how many seconds a process waits for what another has to say."""

    rank: int
    size: int

    @abc.abstractmethod
    def share(self, value: Any) -> Any:
        """Return what the first process gives; what others give is of no account.

        Raises:
            WriteFailed: if a process is gone, or says nothing for too long.
        """

    @abc.abstractmethod
    def gather(self, value: Any) -> list[Any] | None:
        """Return, in the first process, what each gives, by rank; None in the others.

        Raises:
            WriteFailed: as for `share`.
        """

    def close(self) -> None:
        """End the conversation; each process calls it, or none."""
        return

    @property
    def first(self) -> bool:
        """Say whether this process is the first."""
        return self.rank == 0

    def every(self, value: Any) -> list[Any]:
        """Return what each process gives, in all of them."""
        said: list[Any] = self.share(self.gather(value))
        return said
