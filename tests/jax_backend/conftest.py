"""JAX compiles each program once for the tests of a process and for the processes that they start."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

_COMPILED = tempfile.mkdtemp(prefix="compiled-")

# Read when JAX is imported. Test processes do not share it: an entry is written in place, and half of one is an error.
os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep the tests of a file, which share programs, in one process where several share the work; slow ones alone."""
    if item.get_closest_marker("xdist_group") is None and item.get_closest_marker("slow") is None:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_unconfigure() -> None:
    """Remove what was compiled."""
    shutil.rmtree(_COMPILED, ignore_errors=True)
