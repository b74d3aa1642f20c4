"""Work on two things at a time, where the work releases the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_A_TIME = 2


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of each item, in order; threads work on the next ones meanwhile.

    Raises:
        BaseException: what the work raised for an item, once the results before it were taken.
    """
    pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="keepfast-side-by-side")
    begun: deque[Callable[[], Result]] = deque()
    try:
        for item in items:
            begun.append(_begin(pool, work, item))
            if len(begun) > _AT_A_TIME:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(pool: ThreadPoolExecutor, work: Callable[[Item], Result], item: Item) -> Callable[[], Result]:
    """Return what gives the result of an item."""
    try:
        return pool.submit(work, item).result
    except RuntimeError:  # the interpreter is ending and starts no more threads
        return partial(work, item)
