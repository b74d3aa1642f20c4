"""Work on two things at a time, where the work releases the interpreter's lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of each item, in order, working on one of them on a thread and on the next one here.

    Raises:
        BaseException: what the work raised for an item, once the results before it were taken.
    """
    remaining = iter(items)
    while pair := list(islice(remaining, 2)):
        outcome: list[Any] = []
        thread = threading.Thread(target=lambda: outcome.append(_outcome(work, pair[0])), daemon=True)  # noqa: B023
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending and starts no more threads
            yield from map(work, pair)
            continue
        second = [_outcome(work, item) for item in pair[1:]]
        thread.join()
        for result, error in outcome + second:
            if error is not None:
                raise error
            yield result


def _outcome(work: Callable[[Item], Result], item: Item) -> tuple[Result | None, BaseException | None]:
    try:
        return work(item), None
    except BaseException as error:  # noqa: BLE001  (kept, and raised where the result is asked for)
        return None, error


def spare_allocations() -> None:
    """Spare work on medium-sized arrays from getting each one's memory from the system anew, and zeroed.

    The allocator of glibc hands out blocks beyond a threshold straight from the system and returns them when they are
    freed, which takes longer than what is computed in them; the threshold rises to the largest such block that was
    freed. This one is never touched, so it costs nothing itself.
    """
    np.empty(_LARGEST_THRESHOLD, np.uint8)


_LARGEST_THRESHOLD = 30 << 20
