"""The random generators that Python, NumPy and the frameworks keep for everybody."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keepfast.interfaces.backend import Backend
from keepfast.plain import generators


def capture_random_state(backends: Iterable[Backend]) -> dict[str, Any]:
    """Return the state of Python's, NumPy's and the given frameworks' generators, as a tree."""
    version, internal, gauss = random.getstate()
    return {
        "python": (version, np.array(internal, np.uint32), gauss),  # 625 numbers, which as one array cost as one
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002  (others' code draws from it)
        "backends": {backend.name: backend.random_state() for backend in backends},
    }


def restore_random_state(state: Mapping[str, Any], backends: Iterable[Backend]) -> None:
    """Put back what `capture_random_state` returned; a framework that it has nothing for is left alone."""
    generators.require_like(capture_random_state(()), {"backends": {}, **state})
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(np.asarray(internal).tolist()), gauss))  # files of before have them one by one
    np.random.set_state(state["numpy"])  # noqa: NPY002  (as above)
    for backend in backends:
        if backend.name in state["backends"]:
            backend.set_random_state(state["backends"][backend.name])


def check_random_state(state: Mapping[str, Any], backends: Sequence[Backend]) -> None:
    """Check that generators can go on from what `capture_random_state` returned; none of them is changed.

    Raises:
        Exception: whatever they raise at it.
    """
    before = capture_random_state(backends)
    try:
        restore_random_state(state, backends)
    finally:
        restore_random_state(before, backends)
