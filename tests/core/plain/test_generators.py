"""States of random generators that a file may have: none has a generator read beyond its own numbers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import keepfast
from keepfast.plain.generators import capture, of_torch, restore
from keepfast.runs.random_state import capture_random_state, check_random_state

MAKERS: dict[str, tuple[Callable[[], Any], int]] = {
    "RandomState": (lambda: np.random.RandomState(0), 624),
    "MT19937": (lambda: np.random.MT19937(0), 624),
    "Generator of MT19937": (lambda: np.random.Generator(np.random.MT19937(0)), 624),
    "Philox": (lambda: np.random.Generator(np.random.Philox(0)), 4),
}
"""Generators of NumPy that keep numbers for later, and how many."""

WRONG = [-(2**31), -1, 1, 10**8, 2**31 - 1, 2**70, 1.5, True, None, "1"]
"""Places; a positive one is beyond the last."""


def with_place(state: dict[str, Any], place: Any) -> dict[str, Any]:
    changed = copy.deepcopy(state)
    inner, name = (changed["state"], "pos") if "pos" in changed["state"] else (changed, "buffer_pos")
    inner[name] = place
    return changed


@pytest.mark.parametrize("place", WRONG)
@pytest.mark.parametrize("name", MAKERS)
def test_a_place_beyond_the_numbers_is_refused(name: str, place: Any) -> None:
    """As NumPy itself does not; the generator is as it was."""
    make, count = MAKERS[name]
    generator = make()
    before = json.dumps(capture(generator), default=np.ndarray.tolist)
    wrong = count + place if isinstance(place, int) and place > 0 and place is not True else place
    with pytest.raises(keepfast.LoadMismatch, match="cannot go on from the file's state"):
        restore(generator, with_place(capture(generator), wrong))
    assert json.dumps(capture(generator), default=np.ndarray.tolist) == before


@pytest.mark.parametrize("name", MAKERS)
def test_every_place_among_the_numbers_is_taken(name: str) -> None:
    """The first, the one behind the last, and any between."""
    make, count = MAKERS[name]
    for place in range(count + 1):
        generator = make()
        restore(generator, with_place(capture(generator), place))


@pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "SFC64"])
def test_generators_without_such_a_place_go_on(name: str) -> None:
    """What they keep is numbers alone."""
    generator, other = (np.random.Generator(getattr(np.random, name)(seed)) for seed in (0, 1))
    restore(other, capture(generator))
    assert other.random() == generator.random()


def test_what_everybody_draws_from_is_checked_as_well(numpy_backend: Any) -> None:
    """NumPy's own state of before, which a resume puts back; a draw would end the process."""
    state = capture_random_state([numpy_backend])
    state["numpy"] = with_place(state["numpy"], 10**8)
    with pytest.raises(ValueError, match="there are 624 numbers"):
        check_random_state(state, [numpy_backend])


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
