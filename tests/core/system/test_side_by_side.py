"""Two things at a time, their results in order."""

from __future__ import annotations

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
