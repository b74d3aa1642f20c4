"""When something is due: every so many timesteps, never, or as often as suits the length of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

Interval = int | Literal["auto"]
"""An interval in timesteps; 0 or less disables; "auto" derives it from the length of the training."""


@final
@dataclass(frozen=True)
class Schedule:
    """Says at which timesteps something is due.

    Attributes:
        interval: in timesteps; 0 when disabled.
    """

    interval: int

    @classmethod
    def of(cls, value: Interval, timesteps: int | None, samples: int, fallback: int) -> Schedule:
        """Return the schedule that a configured value means.

        Args:
            value: what the user configured.
            timesteps: the length of the training, or None where it is not known.
            samples: how often "auto" makes it due within that length.
            fallback: the interval of "auto" where the length is not known.
        """
        if value != "auto":
            return cls(max(value, 0))
        return cls(fallback if timesteps is None else max(timesteps // samples, 1))

    @property
    def enabled(self) -> bool:
        """Say whether it is ever due."""
        return self.interval > 0

    def due(self, completed: int) -> bool:
        """Say whether it is due once `completed` timesteps are done."""
        return self.interval > 0 and completed % self.interval == 0
