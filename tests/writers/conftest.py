"""What the tests of writers share."""

from __future__ import annotations

from pathlib import Path

import pytest

import holdfast


@pytest.fixture
def context(tmp_path: Path) -> holdfast.WriterContext:
    """Return the context of a new run."""
    directory = tmp_path / "24-11-24_12-00-00-000000_PPO"
    directory.mkdir()
    return holdfast.WriterContext(directory, directory.name, {"experiment": {}})
