"""Numbers change places in place, and what was overwritten is had back wherever that was interrupted."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast._system.memory import exchanging
from keepfast._system.memory.exchanging import Exchange
from keepfast._system.memory.giving import apart, giving, is_given, taken
from keepfast._system.memory.room import Room

DTYPES: list[Any] = [np.float32, np.uint8, np.complex128, bool]


def pairs() -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return arrays of several shapes, one without numbers and one without dimensions, and others of the same."""
    shapes = [(3, 5), (), (0, 2), (17,)]
    return [(np.zeros(shape, dtype), np.ones(shape, dtype)) for shape in shapes for dtype in DTYPES]


class Interrupted(BaseException):
    """Stands for what comes between any two steps, Ctrl+C say."""


class Interrupts:
    """Has a line of the module raise, once so many were run."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, event: str, _what: object) -> Interrupts | None:
        if frame.f_code.co_filename != exchanging.__file__:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise Interrupted
        return self


def interrupted(call: Any, line: int) -> bool:
    """Make a call that is interrupted before one of its lines; say whether it had as many."""
    before = sys.gettrace()
    sys.settrace(Interrupts(line))
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


def test_arrays_exchange_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair, in pieces, the last of which is smaller; and back again."""
    monkeypatch.setattr(exchanging, "_PIECE", 8)
    made = pairs()
    exchange = Exchange(made)
    exchange.make()
    assert all((own == 1).all() and (new == 0).all() for own, new in made)
    exchange.put_back()
    assert all((own == 0).all() for own, _ in made)


def test_an_exchange_is_undone_wherever_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any of its lines, and however often the undoing is interrupted in turn."""
    monkeypatch.setattr(exchanging, "_PIECE", 40)
    line = 1
    while True:
        own, new = np.arange(30, dtype=np.float32), np.full(30, 7, np.float32)
        exchange = Exchange([(own, new)])
        if not interrupted(exchange.make, line):
            break
        interrupted(exchange.put_back, 1 + line % 7)
        exchange.put_back()
        assert (own == np.arange(30)).all(), line
        line += 1
    assert line > 3 * 6
    assert (own == 7).all()


def test_only_what_was_read_into_a_room_and_is_reached_by_nothing_else_is_given() -> None:
    """An array of its own, of some size, in C order; no part of another, nobody's array, and nothing outside."""
    room = Room(1 << 20)
    alone, shared = (room.take(1 << 13).view(np.float32).reshape(2, -1) for _ in range(2))
    foreign, small = np.zeros((2, 1 << 11)), room.take(16)
    turned = room.take(1 << 13).reshape(2, -1).T
    alone[:] = 0  # the numbers of fresh memory may be any, also such that cannot be cast
    with giving([alone, shared, shared[1:], foreign, small, turned, 3, "text"]):
        assert [is_given(each) for each in (alone, shared, foreign, small, turned)] == [True, *[False] * 4]
        assert taken(alone) is alone
        assert taken(alone, np.dtype(np.float64)).dtype == np.float64
        assert not np.shares_memory(taken(shared), shared)
    assert not is_given(alone)
    assert not np.shares_memory(taken(alone), alone)
    with giving([alone, alone]):
        assert not is_given(alone)


def test_spans_that_reach_into_none_other_are_told() -> None:
    """Those that touch do not reach into each other; one that others lie in does, and so do they."""
    spans = {"a": (0, 4), "b": (4, 8), "c": (6, 9), "d": (20, 30), "e": (22, 23), "f": (25, 26), "g": (30, 31)}
    assert apart(spans) == ["a", "g"]
    assert apart({}) == []


@pytest.mark.parametrize("nbytes", [0, 1, 1 << 16, 1 << 20, 1 << 23])
def test_a_room_gives_memory_that_is_apart_and_aligned(nbytes: int) -> None:
    """Of the very size, also where more is taken than was told; large ones where JAX can take them over."""
    room = Room(nbytes)
    taken_ = [room.take(nbytes) for _ in range(5)]
    for number, memory in enumerate(taken_):
        memory[:] = number
    assert all((memory == number).all() for number, memory in enumerate(taken_))
    assert all(len(memory) == nbytes for memory in taken_)
    if nbytes >= 1 << 16:
        assert all(memory.ctypes.data % 64 == 0 for memory in taken_)
