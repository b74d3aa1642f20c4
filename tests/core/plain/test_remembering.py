"""What is remembered of an object before a load, and put back after one that failed."""

from __future__ import annotations

import random
from collections import OrderedDict, UserDict, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keepfast.plain.backend import PlainBackend
from keepfast.plain.remembering import SMALL, Remembered


class Slotted:
    """Has no dictionary of attributes."""

    __slots__ = ("late", "value")

    def __init__(self) -> None:
        self.value: Any = [1]


def remembered(root: Any, captured: Any = None) -> Remembered:
    return Remembered(root, PlainBackend(), captured)


def test_values_and_containers_are_put_back_where_they_are() -> None:
    """An array that is overwritten, entries replaced, added and removed, of every container, in their order."""
    array, inner = np.zeros(3), {"b": 1, "a": [1, 2]}
    held = SimpleNamespace(array=array, inner=inner, last=deque([1, 2], 3), seen={1}, raw=bytearray(b"ab"))
    root = SimpleNamespace(held=held, order=OrderedDict(x=1, y=2), of_user=UserDict(k=1), slots=Slotted(), pair=([1],))
    first, before = remembered(root), repr(vars(root)).replace(repr(root.slots), "")
    array[:] = 7
    inner.pop("b")
    inner["a"].append(3)
    held.last.append(9)
    held.seen.add(2)
    held.raw[:] = b"xyz"
    root.order.move_to_end("x")
    root.of_user["k"], root.of_user["new"] = 2, 3
    root.slots.value.append(2)
    root.slots.late = 1
    root.pair[0].clear()
    held.array, root.extra = np.ones(1), 1
    first.put_back()
    assert repr(vars(root)).replace(repr(root.slots), "") == before
    assert held.array is array
    assert held.inner is inner
    assert (root.slots.value, hasattr(root.slots, "late")) == ([1], False)


def test_an_ordered_dict_is_put_back_with_its_own_attributes() -> None:
    """PyTorch hangs versions on a state dict, and a hook may hang anything on what a module has; it may be empty."""
    order: OrderedDict[str, Any] = OrderedDict(x=[1])
    empty: OrderedDict[str, Any] = OrderedDict()
    vars(order)["told"] = {"version": [1]}
    before = remembered(SimpleNamespace(order=order, empty=empty))
    order["x"].append(2)
    order["y"] = empty["new"] = 1
    vars(order)["told"]["version"].append(2)
    vars(order)["more"] = vars(empty)["more"] = 1
    before.put_back()
    assert (dict(order), vars(order)) == ({"x": [1]}, {"told": {"version": [1]}})
    assert (dict(empty), vars(empty)) == ({}, {})


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState, random.Random])
def test_generators_are_put_back(make: Any) -> None:
    """One that was drawn from draws the same again."""
    root = SimpleNamespace(rng=make(3))
    before = remembered(root)
    drawn = root.rng.random()
    before.put_back()
    assert root.rng.random() == drawn


def test_large_arrays_that_are_no_state_are_not_copied() -> None:
    """A buffer that an object works with is left alone; one that its state has is kept."""
    root = SimpleNamespace(state=np.zeros(SMALL), work=np.zeros(SMALL))
    before = remembered(root, {"state": root.state[:]})
    root.state[:], root.work[:] = 1, 1
    before.put_back()
    assert (root.state.max(), root.work.max()) == (0, 1)
    assert before.reaches(root.state)
    assert not before.reaches(root.work)


def test_what_an_object_only_knows_of_is_not_walked_into() -> None:
    """An environment, a module of Python's, a function: they go on as they are."""

    class Env:
        def __init__(self) -> None:
            self.count = 0

        def step(self) -> None:
            self.count += 1

        def reset(self) -> None:
            self.count = 0

    root = SimpleNamespace(env=Env(), random=random, call=remembered)
    before = remembered(root)
    root.env.step()
    root.env, kept = Env(), root.env
    before.put_back()
    assert root.env is kept
    assert kept.count == 1
