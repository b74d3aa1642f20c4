"""Work on two things at a time, where the work releases the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import TypeVar

from keepfast._system.disk.bounded import require_room

Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_A_TIME = 2

_OF_A_THREAD = 1 << 26
"""How many bytes of memory there must be for a thread to begin: where it ends at once, Python waits for it forever."""


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of each item, in order; threads work on the next ones meanwhile, where there are several.

    Raises:
        BaseException: what the work raised for an item, once the results before it were taken.
    """
    left = iter(items)
    ahead = list(islice(left, 2))
    if len(ahead) < 2:
        yield from map(work, ahead)
        return
    pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="keepfast-side-by-side")
    begun: deque[Callable[[], Result]] = deque()
    try:
        for item in chain(ahead, left):
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
        require_room(_OF_A_THREAD)
        return pool.submit(work, item).result
    except (MemoryError, RuntimeError):  # there is no room for a thread, or the interpreter is ending and starts none
        return partial(work, item)
