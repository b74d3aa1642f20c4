"""A run whose directory is removed goes on in a new one, and says what was lost."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast

TAG = "Loss / Loss"


@pytest.mark.parametrize(
    "writer", ["jsonl", "csv", pytest.param("tensorboard", marks=pytest.mark.needs("tensorboard"))]
)
@pytest.mark.parametrize("what", ["run", "metrics", "config.json", "checkpoints"])
def test_what_is_removed_is_made_anew_and_told(what: str, writer: str, tmp_path: Path, net: Callable[..., Any]) -> None:
    """All of the directory, or a part: told once, written again with the next checkpoint, and in the tally at close."""
    cfg = {"directory": tmp_path, "experiment_name": "a/run", "writers": [writer]}
    run = tmp_path / "a" / "run"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with keepfast.Experiment({**cfg, "checkpoint_interval": 10, "write_interval": 5}, timesteps=40) as experiment:
            experiment.register(policy=net(0))
            for timestep in range(40):
                experiment.track_data(TAG, float(timestep))
                experiment.step(timestep)
                if timestep == 19:
                    experiment.wait()
                    _remove(run, what)
                if timestep == 29:
                    experiment.wait()
    told = [str(each.message) for each in caught]
    assert json.loads((run / "config.json").read_text())["timesteps"] == 40
    steps = list(keepfast.read_metrics(run)[TAG].steps)
    assert steps == ([35, 40] if what in ("run", "metrics") else [5, 10, 15, 20, 25, 30, 35, 40])
    stored = {path.stem for path in (run / "checkpoints").glob("agent_*")}
    assert stored == {"agent_30", "agent_40"} | (set() if what in ("run", "checkpoints") else {"agent_10", "agent_20"})
    files = [text for text in told if "were removed while it ran" in text]
    assert len(files) == (0 if what == "metrics" else 2)
    assert all(("with 2 checkpoint(s)" in text) == (what in ("run", "checkpoints")) for text in files)
    records = [text for text in told if "was removed while the run wrote to it" in text]
    assert len(records) == (2 if what in ("run", "metrics") else 0)
    assert len(told) == len(files) + len(records)
    again = keepfast.Experiment(cfg)
    again.register(policy=net(1))
    assert again.resume() == 40
    again.close()


def _remove(run: Path, what: str) -> None:
    match what:
        case "run":
            shutil.rmtree(run.parent)
        case "metrics":
            for path in [*run.glob("metrics.*"), *run.glob("events.*")]:
                path.unlink()
        case "checkpoints":
            shutil.rmtree(run / what)
        case _:
            (run / what).unlink()
