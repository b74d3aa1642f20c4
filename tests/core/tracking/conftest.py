"""What the tests of writers in a run share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.tracking.writers import GatedWriter


@pytest.fixture
def gated() -> Iterator[GatedWriter]:
    """Return a writer that blocks until its gate is opened, at the end of the test if not before."""
    writer = GatedWriter()
    yield writer
    writer.gate.set()
