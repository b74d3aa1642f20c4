"""A hub that the client is pointed at, and a run to push to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import keepfast
from tests.core.hub.hub_server import Hub, serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Return a hub that the client is pointed at, its cache empty.

    What the client reads of the environment once, when it is imported, is set where it keeps it.
    """
    import huggingface_hub.constants
    import huggingface_hub.file_download

    with serving() as hub:
        template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
        template = template.replace(huggingface_hub.constants.ENDPOINT, hub.address)
        for module in (huggingface_hub.constants, huggingface_hub.file_download):
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True, raising=False)
        yield hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Return what makes the client be offline, as it is in a process that has HF_HUB_OFFLINE."""
    import huggingface_hub.constants
    from huggingface_hub.utils import _http

    anew = getattr(_http, "reset_sessions", lambda: None)  # before 1.0, a session asks when it is made

    def cut() -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        anew()

    yield cut
    monkeypatch.undo()
    anew()


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
