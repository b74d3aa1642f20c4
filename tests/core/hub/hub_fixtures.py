"""A hub that the client is pointed at, and a run to push to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import keepfast
from tests.core.hub.hub_server import Hub, serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Return a hub that the client is pointed at, its cache empty."""
    import huggingface_hub.constants

    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        yield hub


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run of three checkpoints with rewards."""
    policy = {"w": np.zeros(3)}
    config = {"experiment_name": "run", "directory": str(tmp_path), "write_interval": 1, "checkpoint_interval": 2}
    with keepfast.Experiment(config | {"writers": ["jsonl"]}, name="PPO", timesteps=6) as experiment:
        experiment.register(policy=policy)
        for timestep in range(6):
            policy["w"][...] = timestep
            experiment.track_data("Reward / Total reward (mean)", float(timestep))
            experiment.step(timestep)
    return tmp_path / "run"
