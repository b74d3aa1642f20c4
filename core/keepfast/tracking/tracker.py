"""Tracks values between two writes and turns them into statistics.

Values wait in the order they come, tensors and arrays without waiting for their device, and are added up when the
statistics are asked for: those on a device are fetched together, in one transfer. Any thread may track.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast._arrays import check_number, host_array
from keepfast._system.arguments.guarding import tell
from keepfast._system.tally import Count, Tally
from keepfast.errors import InvalidValue, UsageError, as_given
from keepfast.tracking.episodes.tracker import EpisodeTracker
from keepfast.tracking.held import Holder
from keepfast.tracking.interval import Interval
from keepfast.tracking.statistic import Statistic
from keepfast.tree import is_array

HELD_LIMIT = 16_384
"""How many values wait at most, so that memory stays bounded however long the interval is."""


@final
class Tracker:
    """Holds what was tracked since the last write.

    Tags ending in "(max)" or "(min)", in any case, take that statistic, all others are averaged. Non-finite values are
    kept out, counted, and reported once per tag.
    """

    def __init__(self, nonfinite: Tally | None = None) -> None:
        self._holder = Holder()
        self._statistics: dict[str, Statistic] = {}
        # To append to a deque takes no lock. It stays the same one, so that no value of another thread ends up in one
        # that was worked off already.
        self._waiting: deque[tuple[str, Any]] = deque()
        self._lock = threading.Lock()
        self._nonfinite = Tally() if nonfinite is None else nonfinite
        self.episodes = EpisodeTracker(self._holder)

    def track(self, tag: str, value: Any) -> None:
        """Track one number.

        Args:
            tag: what it is, ``"Loss / Policy loss"`` for example.
            value: a number, or an array or tensor on any device that holds one.

        Raises:
            InvalidValue: if it is no single number.
        """
        try:
            if type(tag) is not str:
                tag = _plain(tag)
            if type(value) is not float:
                value = self._kept(tag, value)
            self._waiting.append((tag, value))
            if len(self._waiting) >= HELD_LIMIT:
                with self._lock:
                    self._fold()
        except Exception as error:  # noqa: BLE001  (it is told)
            tell("track_data", error)

    def _kept(self, tag: str, value: Any) -> Any:
        """Return a number as a float, and an array as the holder keeps it."""
        check_number(value, tag)
        if not is_array(value) or isinstance(value, np.generic):
            return float(value)
        try:
            return self._holder.hold(value)
        except InvalidValue as error:
            raise InvalidValue(f"the value of `{tag}`: {error}") from None

    def _fold(self) -> None:
        """Add up what waits; whoever calls this has the lock.

        Raises:
            UsageError: if the value of an array is gone; names its tag. All others are added up.
        """
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        arrays, gone = self._fetch([(tag, value) for tag, value in waiting if type(value) is not float])
        fetched = iter(arrays)
        for tag, value in waiting:
            number = value if type(value) is float else next(fetched)
            if number is not None:
                statistic = self._statistics.get(tag)
                if statistic is None:
                    statistic = self._statistics[tag] = Statistic()
                statistic.add(number)
        if gone is not None:
            raise gone

    def _fetch(self, held: Sequence[tuple[str, Any]]) -> tuple[list[float | None], UsageError | None]:
        """Return the numbers that arrays hold, None for what is gone, and the error of the first that is."""
        try:
            return [_number(array) for array in self._holder.fetch([value for _, value in held])], None
        except UsageError:
            pass
        found: list[float | None] = []
        gone = None
        for tag, value in held:
            try:
                found += map(_number, self._holder.fetch([value]))
            except UsageError as error:
                found.append(None)
                gone = gone or UsageError(f"`{tag}`: {error}")
        return found, gone

    def merge(self, interval: Interval) -> None:
        """Add what was added up elsewhere, as if each of its numbers had been tracked here."""
        with self._lock:
            self._fold()
            for tag, numbers in interval.values.items():
                self._statistics.setdefault(_plain(tag), Statistic()).merge(numbers)
        if interval.episodes is not None:
            self.episodes.merge(interval.episodes)

    def statistics(self) -> dict[str, float]:
        """Return the statistic of every tag that has data, episodes included, and start the next interval."""
        with self._lock:
            self._fold()
            statistics, self._statistics = self._statistics, {}
        return self._results(statistics, self.episodes.statistics(), self.episodes.take_nonfinite())

    def share(self) -> dict[str, Any]:
        """Return what was tracked since the last write in plain numbers and texts, and start the next interval."""
        with self._lock:
            self._fold()
            statistics, self._statistics = self._statistics, {}
        states = {tag: statistic.state() for tag, statistic in statistics.items()}
        return {"statistics": states, "episodes": self.episodes.share()}

    def joined(self, shares: Sequence[Mapping[str, Any]], *, tells: bool = True) -> dict[str, float]:
        """Return the statistic of every tag over what several trackers shared, this one perhaps among them.

        Args:
            shares: what `share` returned of each. Numbers are added up in their order.
            tells: whether values that were not finite are counted and told of here.
        """
        statistics: dict[str, Statistic] = {}
        for share in shares:
            for tag, state in share["statistics"].items():
                statistics.setdefault(tag, Statistic()).join(Statistic.of(state))
        found, nonfinite = self.episodes.joined([each for share in shares for each in share["episodes"]])
        return self._results(statistics, found, nonfinite, tells=tells)

    def _results(
        self,
        statistics: Mapping[str, Statistic],
        found: dict[str, float],
        nonfinite: dict[str, int],
        *,
        tells: bool = True,
    ) -> dict[str, float]:
        """Return what was found, with the result of each statistic, and count what was not finite."""
        for tag, statistic in statistics.items():
            if statistic.count:
                found[tag] = statistic.result(tag)
            if statistic.nonfinite:
                nonfinite[tag] = statistic.nonfinite
        for tag, count in nonfinite.items() if tells else ():
            self._nonfinite.count(tag, number=count)
        self._nonfinite.tell(_first_nonfinite)
        return found

    @property
    def nonfinite(self) -> dict[str, int]:
        """Return how many values of each tag were not finite over the run."""
        return self._nonfinite.numbers

    def tell_tally(self) -> None:
        """Tell how many values were not finite over the run, where there were more than was told."""
        self._nonfinite.tell_sum(_all_nonfinite)

    @property
    def pending(self) -> bool:
        """Say whether anything was tracked since the last write."""
        return bool(self._statistics or self._waiting or self.episodes.pending)

    def state_dict(self) -> dict[str, Any]:
        """Return everything tracked since the last write, as a tree."""
        with self._lock:
            self._fold()
            statistics = {tag: statistic.state() for tag, statistic in self._statistics.items()}
        return {
            "statistics": statistics,
            "nonfinite": self.nonfinite,
            "episodes": self.episodes.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, running_episodes: bool = True) -> None:
        """Take back what `state_dict` returned, in the place of whatever was tracked.

        Args:
            state: what it returned.
            running_episodes: whether to go on with the episodes that were running.
        """
        with self._lock:
            self._waiting.clear()
            self._statistics = {tag: Statistic.of(values) for tag, values in state["statistics"].items()}
        self._nonfinite.resume({str(tag): int(count) for tag, count in state["nonfinite"].items()})
        self.episodes.load_state_dict(state["episodes"], running=running_episodes)


def _first_nonfinite(tag: str, count: Count) -> str:
    return (
        f"{count.number} value(s) of `{tag}` were not finite and are kept out of its statistic; "
        "further ones are counted and told at close"
    )


def _all_nonfinite(counts: Mapping[str, Count]) -> str:
    more = {tag: count.number for tag, count in counts.items() if count.number != count.told}
    listing = ", ".join(f"{number} of `{tag}`" for tag, number in more.items())
    return f"values that were not finite, over the run: {listing}" if more else ""


def _number(array: NDArray[Any]) -> float:
    return float(host_array(array).reshape(-1)[0])


def _plain(tag: object) -> str:
    """Return a tag that is a string of some class of its own, an enumeration's or NumPy's, as a plain one."""
    if not isinstance(tag, str):
        raise InvalidValue(f"a tag is {as_given(tag)} ({type(tag).__name__}); allowed: a string")
    return str.__str__(tag)  # not the class's own, which enumerations have
