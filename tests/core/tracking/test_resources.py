"""System metrics: what a run takes of its machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import keepfast
from keepfast.tracking.resources import Resources


def test_system_metrics_are_tracked_where_they_are_asked_for(tmp_path: Path) -> None:
    """At each write, beside what else is tracked; without the setting there are none."""
    for name, settings in (("with", {"system_metrics": True}), ("without", {})):
        cfg = {"directory": str(tmp_path), "experiment_name": name, "writers": ["jsonl"], "write_interval": 5}
        with keepfast.Experiment({**cfg, **settings}, timesteps=10) as experiment:
            for timestep in range(10):
                experiment.track_data("a", 1.0)
                experiment.step(timestep)
    found = keepfast.read_metrics(tmp_path / "with")
    assert found["Resource / CPU usage (%)"].steps.tolist() == [5, 10]
    assert (found["Resource / CPU usage (%)"].values >= 0).all()
    assert list(keepfast.read_metrics(tmp_path / "without")) == ["a"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others tell it in other ways")
def test_memory_is_that_of_the_process() -> None:
    """In MB, and in percent of the machine's."""
    found = Resources().measure()
    assert 5 < found["Resource / Memory (MB)"] < 1_000_000
    assert 0 < found["Resource / Machine's memory (%)"] < 100
