"""Memories of NumPy arrays, so that they are tested where no framework is installed."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, final

import numpy as np  # noqa: F401  (the example's)
import pytest

import keepfast


def example(documented: type) -> str:
    """Return the code in a docstring: what is indented after the first line that ends with two colons."""
    lines = (inspect.getdoc(documented) or "").partition("::\n")[2].splitlines()
    end = next(number for number, line in enumerate(lines) if line and not line.startswith(" "))
    return textwrap.dedent("\n".join(lines[:end]))


exec(example(keepfast.Storage), globals())  # makes NumpyStorage: the example is complete as it stands


@final
class NumpyMemory(keepfast.Memory):
    """What a backend gives its users."""

    def __init__(self, memory_size: int, num_envs: int = 1, device: Any = None, **options: Any) -> None:
        super().__init__(globals()["NumpyStorage"](memory_size, num_envs, device), **options)


@pytest.fixture
def storage() -> Callable[..., keepfast.Storage]:
    """Return the class of the storage."""
    found: Callable[..., keepfast.Storage] = globals()["NumpyStorage"]
    return found


@pytest.fixture
def numpy_memory() -> type[NumpyMemory]:
    """Return the class of the memory."""
    return NumpyMemory
