"""The method: contenders take turns, and a row compares what they took.

Machines are noisy and differ, so nothing here is judged by its absolute time. Ours and the peer's run in turns within
the same minute, and what counts is the ratio of their minima (for what is bound by the processor, where noise only
ever adds) or of their medians (for what waits for a disk).
"""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal, final

Round = Callable[[], float]
"""Does the work of one round, and returns what it took, in seconds."""

Unit = Literal["s", "B"]


@final
@dataclass(frozen=True)
class Settings:
    """What a benchmark is run with.

    Attributes:
        directory: an empty directory on a real disk, for its files.
        large: whether to include what takes minutes.
    """

    directory: Path
    large: bool = False


@final
@dataclass(frozen=True)
class AtLeast:
    """Promises to be so many times faster than the peer."""

    times: float

    def __str__(self) -> str:
        return f"at least {self.times:g}x faster"

    def excess(self, ours: float, theirs: float) -> float:
        """Return by which fraction ours is more than allowed; not more than 0 where the promise is kept."""
        return ours * self.times / theirs - 1


@final
@dataclass(frozen=True)
class AtMost:
    """Promises to take at most so many times what the peer takes, and a constant."""

    times: float
    constant: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.times:g}x"] * bool(self.times) + [f"{self.constant * 1e3:g} ms"] * bool(self.constant)
        return f"at most {' + '.join(parts)}"

    def excess(self, ours: float, theirs: float) -> float:
        """Return by which fraction ours is more than allowed; not more than 0 where the promise is kept."""
        return ours / (self.times * theirs + self.constant) - 1


Limit = AtLeast | AtMost


@final
@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what we did.
        against: what the peer did.
        ours: what it took us, in seconds or bytes.
        theirs: what it took the peer.
        limit: what was promised; None where the row is there for comparison only.
        unit: of `ours` and `theirs`.
        nbytes: how much data was moved, where the rate is of interest.
    """

    what: str
    against: str
    ours: float
    theirs: float
    limit: Limit | None = None
    unit: Unit = "s"
    nbytes: int | None = None

    @property
    def excess(self) -> float | None:
        """Return by which fraction ours is more than was promised, or None where nothing was."""
        return None if self.limit is None else self.limit.excess(self.ours, self.theirs)

    @property
    def kept(self) -> bool | None:
        """Say whether the promise was kept, or None where there is none."""
        return None if self.excess is None else self.excess <= 0


@final
@dataclass(frozen=True)
class Peer:
    """A contender to compare ours with.

    Attributes:
        round: its work.
        limit: what was promised against it.
    """

    round: Round
    limit: Limit | None = None


@final
@dataclass
class Timed:
    """Counts seconds of the blocks it wraps: ``with timed: ...``; `take` returns them and begins at 0 again."""

    seconds: float = 0.0
    _start: float = field(default=0.0, repr=False)

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        self.seconds += time.perf_counter() - self._start

    def take(self) -> float:
        """Return the seconds counted so far and forget them."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def clock(work: Callable[[], object], before: Callable[[], object] | None = None) -> Round:
    """Return a round that does some work and times it, after something that is not timed."""

    def one_round() -> float:
        if before is not None:
            before()
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return one_round


def take_turns(contenders: Mapping[str, Round], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Return what each contender took in each round; they take turns, in an order that alternates."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-warmup, rounds):
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            gc.collect()
            seconds = contenders[name]()
            if number >= 0:
                taken[name].append(seconds)
    return taken


OURS = "Keepfast"


def compare(
    what: str,
    ours: Round,
    peers: Mapping[str, Peer],
    *,
    rounds: int,
    summary: Callable[[Sequence[float]], float] = min,
    nbytes: int | None = None,
) -> Iterator[Row]:
    """Let ours and the peers take turns, and yield a row for each peer.

    Args:
        what: what ours does.
        ours: our round.
        peers: the peers by name.
        rounds: how many rounds count; one more warms up.
        summary: `min` for what is bound by the processor, `median` for what waits for a disk.
        nbytes: how much data a round moves, where the rate is of interest.
    """
    taken = take_turns({OURS: ours, **{name: peer.round for name, peer in peers.items()}}, rounds)
    for name, peer in peers.items():
        yield Row(what, name, summary(taken[OURS]), summary(taken[name]), peer.limit, nbytes=nbytes)


def installed(*packages: str) -> bool:
    """Say whether all of some packages are installed; a peer that is not is left out."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


__all__ = ["AtLeast", "AtMost", "Limit", "Peer", "Row", "Settings", "Timed", "clock", "compare", "installed", "median"]
