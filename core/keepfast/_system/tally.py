"""What goes wrong again and again: told the first time, counted, and told in sum at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from keepfast._system.finishing import finish
from keepfast._system.lifetimes import in_child
from keepfast._system.warnings import warn


@final
@dataclass(frozen=True)
class Count:
    """How often one thing went wrong.

    Attributes:
        number: how often so far.
        told: how often when it was told; None where it was not told yet.
        first: why it did the first time.
        last: why it did the last time.
    """

    number: int = 0
    told: int | None = None
    first: str = ""
    last: str = ""


@final
class Tally:
    """Counts what goes wrong, by name. Any thread may count; warnings come where training asks for them.

    Example::

        tally = Tally()
        tally.count("checkpoint", "the disk is full")  # as often as it happens, behind training
        tally.tell(lambda name, count: f"a {name} was lost: {count.first}")  # warns the first time alone
        tally.tell_sum(lambda counts: f"{counts['checkpoint'].number} checkpoints were lost")
    """

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}
        self._news = False
        self._renew_lock()
        in_child(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._counts

    @property
    def numbers(self) -> dict[str, int]:
        """Return how often each thing went wrong, by name."""
        with self._lock:
            return {name: count.number for name, count in self._counts.items()}

    def count(self, name: str, reason: str = "", number: int = 1) -> None:
        """Take note that something went wrong, once or a number of times."""
        with self._lock:
            known = self._counts.get(name, Count())
            self._counts[name] = Count(known.number + number, known.told, known.first or reason, reason)
            self._news = self._news or known.told is None

    def resume(self, numbers: Mapping[str, int]) -> None:
        """Go on from the numbers of another tally, whose user was told of the first ones."""
        with self._lock:
            told = {name: count.told or 0 for name, count in self._counts.items()}
            self._counts = {name: Count(number, told.get(name, 0)) for name, number in numbers.items()}
            self._news = False

    def tell(self, message: Callable[[str, Count], str]) -> None:
        """Warn of what went wrong and was not told yet; costs next to nothing where there is none.

        Args:
            message: returns the warning from the name of what went wrong and its count.
        """
        if not self._news:
            return
        with self._lock:
            self._news = False
            new = {name: count for name, count in self._counts.items() if count.told is None}
            self._counts.update({name: replace(count, told=count.number) for name, count in new.items()})
        finish(*(partial(warn, message(name, count)) for name, count in new.items()))

    def tell_sum(self, message: Callable[[Mapping[str, Count]], str], *, clear: bool = False) -> None:
        """Warn of all that went wrong.

        Args:
            message: returns the warning from the counts by name; "" where there is nothing to add.
            clear: whether to count anew from here on; what was told is then none the less no news.
        """
        with self._lock:
            counts = dict(self._counts)
            self._news = False
            self._counts = {
                name: Count(told=count.told) if clear else replace(count, told=count.number)
                for name, count in counts.items()
            }
        if text := message(counts):
            warn(text)
