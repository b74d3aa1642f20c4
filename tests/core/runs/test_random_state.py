"""Everybody's random generators."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keepfast import codec
from keepfast.runs.random_state import capture_random_state, check_random_state, restore_random_state


def draw() -> list[float]:
    return [random.random(), random.gauss(), float(np.random.rand()), float(np.random.randn())]  # noqa: NPY002


def test_restored_generators_draw_the_same_numbers(numpy_backend: Any) -> None:
    """Python's and NumPy's, their half-used pairs of normals included, through JSON."""
    draw()
    stored = codec.dumps(capture_random_state([numpy_backend]))
    expected = draw()
    draw()
    restore_random_state(codec.loads(stored), [numpy_backend])
    assert draw() == expected


def test_the_generator_of_a_framework_is_restored() -> None:
    """By the name of its backend, through which alone it is known."""
    generator = random.Random(3)
    backend: Any = SimpleNamespace(name="other", random_state=generator.getstate, set_random_state=generator.setstate)
    stored = codec.dumps(capture_random_state([backend]))
    expected = generator.random()
    restore_random_state(codec.loads(stored), [backend])
    assert generator.random() == expected


def test_a_framework_without_stored_state_is_left_alone(numpy_backend: Any) -> None:
    """A checkpoint of another framework restores what it has."""
    state = capture_random_state([])
    expected = draw()
    restore_random_state(state, [numpy_backend])
    assert draw() == expected


@pytest.mark.parametrize(
    "wild",
    [
        {"numpy": {"pos": 10**6}},
        {"numpy": {"pos": -5}},
        {"numpy": {"key": np.zeros(10_000, np.uint32)}},
        {"python": (3, np.zeros(625, np.uint32), "x")},
        {"python": (3, np.zeros(625, np.uint32))},
        {"python": 3},
        {"numpy": ("MT19937", np.zeros(624, np.uint32), 10**6, 0, 0.0)},
    ],
)
def test_what_nobodys_generator_could_draw_with_is_refused(wild: Any) -> None:
    """By the check that comes before a resume, which leaves them as they were: NumPy would end the process."""
    draw()
    state = capture_random_state([])
    if isinstance(parts := wild.get("numpy"), dict):
        wild = {"numpy": {**state["numpy"], "state": {**state["numpy"]["state"], **parts}}}
    with pytest.raises((ValueError, TypeError)):
        check_random_state({**state, **wild}, [])
    expected = draw()
    restore_random_state(state, [])
    assert draw() == expected
