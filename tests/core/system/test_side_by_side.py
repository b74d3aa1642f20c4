"""Two things at a time, their results in order."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from keepfast._system.side_by_side import side_by_side


def test_results_come_in_the_order_of_the_items() -> None:
    """Also where a later one is done first."""
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(30)
        elif item == 1:
            second_is_done.set()
        return item * 10

    assert list(side_by_side(work, range(20))) == [item * 10 for item in range(20)]


def test_few_items_are_begun_ahead() -> None:
    """What is not taken yet keeps the next ones from being made, so that memory stays bounded."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            yield item

    results = side_by_side(lambda item: item, items())
    assert next(results) == 0
    assert len(made) <= 3
    assert list(results) == list(range(1, 100))


def test_an_error_comes_where_its_result_would() -> None:
    """The results before it are there first."""

    def work(item: int) -> int:
        if item == 2:
            raise ValueError("broken")
        return item

    results = side_by_side(work, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(results)


def _thread(_item: int) -> str:
    return threading.current_thread().name


def test_one_item_alone_needs_no_thread() -> None:
    """As a small file is, which threads only make slower."""
    assert list(side_by_side(_thread, [5])) == ["MainThread"]
    assert list(side_by_side(_thread, [])) == []


WITHOUT_ROOM = """
import resource, threading
from pathlib import Path
from keepfast._system.side_by_side import side_by_side
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 25), resource.RLIM_INFINITY))
print(set(side_by_side(lambda item: threading.current_thread().name, range(20))))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells how much address space a process has")
def test_where_there_is_no_room_for_a_thread_none_is_waited_for() -> None:
    """One that cannot begin is waited for forever by Python: the work is done without."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_ROOM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{'MainThread'}\n", "")
