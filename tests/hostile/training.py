"""A run that starts in a directory where anything may lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keepfast


def train(directory: Path, module: Any, steps: int) -> int:
    """Train a run in a directory, from its latest checkpoint on, and return the timestep that it went on from."""
    cfg = {
        "directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "checkpoint_interval": 2,
        "write_interval": 2, "keep_last": 1,
    }  # fmt: skip
    with keepfast.Experiment(cfg, name="PPO", timesteps=steps) as experiment:
        experiment.register(policy=module)
        started = experiment.resume()
        for timestep in range(started, steps):
            experiment.track_data("Reward / Total reward (mean)", float(timestep))
            experiment.track_data("Loss / value", 1.0)
            experiment.step(timestep)
        return int(started)


def contents(directory: Path) -> dict[str, bytes]:
    """Return the bytes of each file in and below a directory, by its path from there."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}
