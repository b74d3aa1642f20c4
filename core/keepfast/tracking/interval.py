"""An interval that was added up elsewhere: on a device, inside a compiled loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True)
class Aggregate:
    """Numbers that were added up elsewhere.

    Attributes:
        count: how many finite numbers there were.
        total: their sum.
        maximum: the largest of them.
        minimum: the smallest of them.
        nonfinite: how many others there were, which are in none of the above.
    """

    count: int = 0
    total: float = 0.0
    maximum: float = -math.inf
    minimum: float = math.inf
    nonfinite: int = 0


@final
@dataclass(frozen=True)
class EpisodeAggregate:
    """The steps of environments that were added up elsewhere.

    Attributes:
        rewards: the rewards of every step and environment.
        returns: the total reward of each of the latest episodes that ended, at most 100, in the order they ended.
        lengths: how many steps each of them had.
        ended: how many episodes ended.
    """

    rewards: Aggregate
    returns: Sequence[float] = ()
    lengths: Sequence[int] = ()
    ended: int = 0


@final
@dataclass(frozen=True)
class Interval:
    """What was added up since the last time this was told.

    Attributes:
        values: the numbers by tag.
        episodes: the steps of environments, or None where there are none.
    """

    values: Mapping[str, Aggregate] = field(default_factory=dict)
    episodes: EpisodeAggregate | None = None
