"""Memories of NumPy arrays, so that they are tested where no framework is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np  # noqa: F401  (the example's)
import pytest

import keepfast


@final
class NumpyMemory(keepfast.Memory):
    """What a backend gives its users."""

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None, **options: Any) -> None:
        super().__init__(globals()["NumpyStorage"](memory_size, num_envs, device), **options)


@pytest.fixture(scope="session")
def storage(example: Callable[[type], str]) -> Callable[..., keepfast.Storage]:
    """Return the class that the documentation of `keepfast.Storage` shows, which is complete as it stands."""
    exec(example(keepfast.Storage), globals())  # a class of this module, so that it can be pickled
    found: Callable[..., keepfast.Storage] = globals()["NumpyStorage"]
    return found


@pytest.fixture
def numpy_memory(storage: Callable[..., keepfast.Storage]) -> type[NumpyMemory]:
    """Return the class of the memory."""
    return NumpyMemory
