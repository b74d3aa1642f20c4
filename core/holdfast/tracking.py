"""Tracks values between two writes and turns them into statistics.

Numbers are added up as they come. Tensors and arrays are held without waiting for their device, and fetched together
in one transfer when the statistics are asked for. Any thread may track.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from holdfast._arrays import check_number, host_array
from holdfast._warnings import warn
from holdfast.backends import Holder
from holdfast.episodes import EpisodeTracker
from holdfast.errors import InvalidValue, UsageError
from holdfast.sums import SMALL, mean
from holdfast.tree import is_array

HELD_LIMIT = 1024
"""How many tensors of one tag are held at most, so that memory stays bounded however long the interval is."""


@final
class Statistic:
    """Adds up numbers, in the order they come, so that a resumed run arrives at the very same bits.

    Where a sum is beyond the range of a float it is kept in another unit, so that the mean is none the less finite.
    """

    __slots__ = ("count", "maximum", "minimum", "nonfinite", "scale", "total")

    def __init__(
        self,
        count: int = 0,
        total: float = 0.0,
        maximum: float = -math.inf,
        minimum: float = math.inf,
        nonfinite: int = 0,
        scale: float = 1.0,
    ) -> None:
        self.count, self.total, self.maximum, self.minimum = count, total, maximum, minimum
        self.nonfinite, self.scale = nonfinite, scale

    def add(self, value: float) -> None:
        """Add one number; infinities and NaNs are counted but kept out."""
        if not math.isfinite(value):
            self.nonfinite += 1
            return
        self.count += 1
        total = self.total + value * self.scale
        if math.isinf(total):
            self.total, self.scale = self.total * SMALL, SMALL
            total = self.total + value * SMALL
        self.total = total
        if value > self.maximum:
            self.maximum = value
        if value < self.minimum:
            self.minimum = value

    def result(self, tag: str) -> float:
        """Return what the tag asks for: its maximum, its minimum, else its mean."""
        if tag.endswith("(max)"):
            return self.maximum
        if tag.endswith("(min)"):
            return self.minimum
        return mean(self.total, self.scale, self.count, self.minimum, self.maximum)

    def state(self) -> list[float]:
        """Return what `Statistic(*state)` makes the same statistic of."""
        return [self.count, self.total, self.maximum, self.minimum, self.nonfinite, self.scale]


@final
class Tracker:
    """Holds what was tracked since the last write.

    Tags ending in "(max)" or "(min)" take that statistic, all others are averaged. Non-finite values are kept out,
    counted, and reported once per tag.
    """

    def __init__(self) -> None:
        self._holder = Holder()
        self._statistics: dict[str, Statistic] = {}
        self._held: dict[str, list[Any]] = {}
        self._lock = threading.Lock()
        self.nonfinite: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self.episodes = EpisodeTracker(self._holder)

    def track(self, tag: str, value: Any) -> None:
        """Track one number.

        Args:
            tag: what it is, ``"Loss / Policy loss"`` for example.
            value: a number, or an array or tensor on any device that holds one.

        Raises:
            InvalidValue: if it is no single number.
        """
        if type(tag) is not str:
            tag = _plain(tag)
        if type(value) is not float:
            check_number(value, tag)
            if is_array(value) and not isinstance(value, np.generic):
                self._hold(tag, value)
                return
            value = float(value)
        with self._lock:
            if self._held and tag in self._held:  # behind the arrays that came before it
                self._held[tag].append(value)
                return
            statistic = self._statistics.get(tag)
            if statistic is None:
                statistic = self._statistics[tag] = Statistic()
            statistic.add(value)

    def _hold(self, tag: str, value: Any) -> None:
        try:
            kept = self._holder.hold(value)
        except InvalidValue as error:
            raise InvalidValue(f"the value of `{tag}`: {error}") from None
        with self._lock:
            held = self._held.setdefault(tag, [])
            held.append(kept)
            if len(held) >= HELD_LIMIT:
                self._fold()

    def _fold(self) -> None:
        """Fetch everything that is held, in one transfer; whoever calls this has the lock."""
        held = [(tag, value) for tag, values in self._held.items() for value in values]
        self._held = {}
        try:
            fetched = self._holder.fetch([value for _, value in held])
        except UsageError:
            self._fold_what_is_left(held)
            raise
        for (tag, _), array in zip(held, fetched, strict=True):
            self._add(tag, array)

    def _fold_what_is_left(self, held: list[tuple[str, Any]]) -> None:
        """Fetch values one by one where some of them are gone, and keep the others.

        Raises:
            UsageError: for the first that is gone; names its tag.
        """
        gone: UsageError | None = None
        for tag, value in held:
            try:
                (array,) = self._holder.fetch([value])
            except UsageError as error:
                gone = gone or UsageError(f"`{tag}`: {error}")
            else:
                self._add(tag, array)
        if gone is not None:
            raise gone from None

    def _add(self, tag: str, array: NDArray[Any]) -> None:
        self._statistics.setdefault(tag, Statistic()).add(float(host_array(array).reshape(-1)[0]))

    def statistics(self) -> dict[str, float]:
        """Return the statistic of every tag that has data, episodes included, and start the next interval."""
        with self._lock:
            self._fold()
            statistics, self._statistics = self._statistics, {}
        found = self.episodes.statistics()
        nonfinite = self.episodes.take_nonfinite()
        for tag, statistic in statistics.items():
            if statistic.count:
                found[tag] = statistic.result(tag)
            if statistic.nonfinite:
                nonfinite[tag] = statistic.nonfinite
        self._report(nonfinite)
        return found

    def _report(self, nonfinite: Mapping[str, int]) -> None:
        for tag, count in nonfinite.items():
            first = tag not in self.nonfinite
            self.nonfinite[tag] = self.nonfinite.get(tag, 0) + count
            if first:
                self._told[tag] = count
                warn(
                    f"{count} value(s) of `{tag}` were not finite and are kept out of its statistic; "
                    "further ones are counted and told at close"
                )

    def tell_tally(self) -> None:
        """Tell how many values were not finite over the run, where there were more than was told."""
        more = {tag: count for tag, count in self.nonfinite.items() if count != self._told.get(tag)}
        if more:
            listing = ", ".join(f"{count} of `{tag}`" for tag, count in more.items())
            warn(f"values that were not finite, over the run: {listing}")
            self._told.update(more)

    @property
    def pending(self) -> bool:
        """Say whether anything was tracked since the last write."""
        return bool(self._statistics or self._held or self.episodes.pending)

    def state_dict(self) -> dict[str, Any]:
        """Return everything tracked since the last write, as a tree."""
        with self._lock:
            self._fold()
            statistics = {tag: statistic.state() for tag, statistic in self._statistics.items()}
        return {
            "statistics": statistics,
            "nonfinite": dict(self.nonfinite),
            "episodes": self.episodes.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned, in the place of whatever was tracked."""
        with self._lock:
            self._held = {}
            self._statistics = {tag: Statistic(*values) for tag, values in state["statistics"].items()}
        self.nonfinite = dict(state["nonfinite"])
        self.episodes.load_state_dict(state["episodes"])


def _plain(tag: object) -> str:
    """Return a tag that is a string of some class of its own, an enumeration's or NumPy's, as a plain one."""
    if not isinstance(tag, str):
        raise InvalidValue(f"a tag is {tag!r} ({type(tag).__name__}); allowed: a string")
    return str.__str__(tag)  # not the class's own, which enumerations have
