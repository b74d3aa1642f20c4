"""What the tests of writers share."""

from __future__ import annotations

from pathlib import Path

import pytest

import keepfast


@pytest.fixture
def context(tmp_path: Path) -> keepfast.WriterContext:
    """Return the context of a new run."""
    directory = tmp_path / "24-11-24_12-00-00-000000_PPO"
    directory.mkdir()
    return keepfast.WriterContext(directory, directory.name, {"experiment": {}})
