"""What the tests of writers in a run share."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from keepfast.tracking import writer_lane
from keepfast.tracking.writer_call import Call
from tests.core.tracking.writers import GatedWriter


@pytest.fixture
def gated() -> Iterator[GatedWriter]:
    """Return a writer that blocks until its gate is opened, at the end of the test if not before."""
    writer = GatedWriter()
    yield writer
    writer.gate.set()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note for how many seconds somebody is ready to wait for a call that is not finished."""
    noted: list[float] = []
    wait = Call.wait

    def noting(call: Call, timeout: float) -> bool:
        if timeout > 0 and not wait(call, 0):
            noted.append(timeout)
        return wait(call, timeout)

    monkeypatch.setattr(Call, "wait", noting)
    return noted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the clock of the lanes, which stands still until its `now` is set."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(writer_lane, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock
