"""Generators of NumPy and Python, and what files may have in the place of their states."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast.errors import LoadMismatch
from keepfast.plain import generators
from keepfast.plain.generators import of_torch

_BITS = (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)
MAKERS: dict[str, Any] = {each.__name__: lambda each=each: np.random.Generator(each(1)) for each in _BITS} | {
    "RandomState": lambda: np.random.RandomState(1),
    "bits": lambda: np.random.Philox(1),
    "Random": lambda: random.Random(1),
}

WILD: dict[str, Any] = {
    "none": None,
    "text": "x",
    "bytes": b"x",
    "list": [],
    "mapping": {},
    "real": 1.5,
    "below": -1,
    "far below": -(2**31),
    "beyond": 625,
    "far": 2**31 - 10,
    "long": 10**400,
    "no array": np.zeros(0, np.uint32),
    "long array": np.zeros(10_000, np.uint32),
    "real array": np.zeros(624),
    "complex array": np.zeros(4, complex),
}


def _draw(generator: Any) -> Any:
    if isinstance(generator, np.random.BitGenerator):
        generator = np.random.Generator(generator)
    if isinstance(generator, np.random.Generator):
        return [*generator.random(4), *generator.integers(5, size=3, dtype=np.int32)]
    if isinstance(generator, np.random.RandomState):
        return [*generator.rand(3), *generator.randn(3)]
    return [generator.random(), generator.gauss(0, 1), generator.gauss(0, 1)]


def _places(tree: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = tree.items() if isinstance(tree, Mapping) else ()
    return [at, *(place for key, each in inner for place in _places(each, (*at, key)))]


def _with(tree: Any, at: tuple[str, ...], value: Any) -> Any:
    return {**tree, at[0]: _with(tree[at[0]], at[1:], value)} if at else value


@pytest.mark.parametrize("name", MAKERS)
def test_whatever_a_file_has_for_a_state_a_generator_draws_or_says_no(name: str) -> None:
    """NumPy reads beyond its memory where a place is none, and takes arrays of any length; Python any text."""
    state = generators.capture(MAKERS[name]())
    for place in _places(state):
        for wild in WILD.values():
            generator, changed = MAKERS[name](), _with(state, place, wild)
            try:
                assert isinstance(changed, Mapping)
                generators.restore(generator, changed)
            except (LoadMismatch, AssertionError):
                continue
            assert all(np.isfinite(np.array(_draw(generator), float))), (place, wild)


@pytest.mark.parametrize(
    ("name", "place", "wild"),
    [
        ("MT19937", ("state", "pos"), 625),
        ("MT19937", ("state", "pos"), -1),
        ("RandomState", ("state", "pos"), 10**6),
        ("RandomState", ("state", "key"), np.zeros(10_000, np.uint32)),
        ("RandomState", ("state", "key"), np.zeros(624)),
        ("Philox", ("buffer_pos",), 5),
        ("bits", ("buffer_pos",), -(10**8)),
        ("SFC64", ("state", "state"), np.zeros(1)),
        ("Random", ("gauss",), "x"),
    ],
)
def test_what_a_generator_could_not_draw_with_is_refused(name: str, place: tuple[str, ...], wild: Any) -> None:
    """And it goes on as it was."""
    generator, same = MAKERS[name](), MAKERS[name]()
    with pytest.raises(LoadMismatch, match=place[-1]):
        generators.restore(generator, _with(generators.capture(generator), place, wild))
    assert _draw(generator) == _draw(same)


@pytest.mark.parametrize("name", MAKERS)
def test_a_generator_goes_on_from_its_state(name: str) -> None:
    """At each place that it can be at."""
    generator, other = MAKERS[name](), MAKERS[name]()
    for _ in range(700):
        generators.restore(other, generators.capture(generator))
        assert _draw(other) == _draw(generator)


def torchs(left: int, place: int) -> NDArray[np.uint8]:
    state = np.zeros(5056, np.uint8)
    state[8:12].view(np.int32)[0], state[16:24].view(np.uint64)[0] = left, place
    return state


def test_what_a_generator_of_torch_says_of_itself_agrees() -> None:
    """It has so many words left from a place on, and no more than there are."""
    for left, place in ((1, 0), (624, 1), (2, 623), (1, 624), (500, 125)):
        assert of_torch(torchs(left, place)) is not None
    for left, place in ((0, 0), (-1, 0), (625, 0), (624, 2), (624, 624), (2, 624), (1, 625), (1, 2**63)):
        with pytest.raises(ValueError, match="there are 624"):
            of_torch(torchs(left, place))
    accelerators = np.zeros(16, np.uint8)
    assert of_torch(accelerators) is accelerators
