"""What is kept of each start: where it comes from, how it ended, what it went on from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast._system.warnings import warn
from keepfast.runs.processes.origin import Origin
from keepfast.runs.reading import read_run


def begin(directory: Path, **settings: Any) -> keepfast.Experiment:
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "checkpoint_interval": 0}
    return keepfast.Experiment(
        {"experiment": {**cfg, **settings}, "seed": 7, "wandb_api_key": "hunter2hunter2"}, timesteps=4
    )


def ended(directory: Path) -> dict[str, Any]:
    return dict(read_run(directory / "run").starts[-1]["ended"])


def test_a_start_tells_where_it_comes_from(tmp_path: Path) -> None:
    """While it runs already: command, directory, Python, machine, packages, seeds; secrets are masked."""
    with begin(tmp_path):
        run = read_run(tmp_path / "run")
        assert run.status == "running"
        told = run.starts[-1]["provenance"]
        assert {"command", "directory", "python", "machine", "packages"} <= told.keys()
        assert told["seeds"]["seed"] == 7
        assert told["packages"]["numpy"]
    assert "hunter2hunter2" not in (tmp_path / "run" / "config.json").read_text()


def test_a_run_that_was_closed_is_finished(tmp_path: Path) -> None:
    """With the timesteps it completed, and how long it took."""
    with begin(tmp_path) as experiment:
        for timestep in range(4):
            experiment.step(timestep)
    told = ended(tmp_path)
    assert (told["how"], told["error"], told["timestep"]) == ("finished", None, 4)
    assert told["seconds"] > 0


@pytest.mark.parametrize(
    ("error", "how", "text"),
    [
        (ValueError("token=abc is wrong\x1b[2J"), "failed", "ValueError: token=*** is wrong\\x1b[2J"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(3), "interrupted", "SystemExit: 3"),
    ],
)
def test_an_error_that_ends_a_run_is_told(tmp_path: Path, error: BaseException, how: str, text: str) -> None:
    """By its kind and text, without secrets and without what commands a terminal."""
    with pytest.raises(type(error)), begin(tmp_path):
        raise error
    assert (ended(tmp_path)["how"], ended(tmp_path)["error"]) == (how, text)


def test_a_signal_that_ends_a_run_is_told(tmp_path: Path) -> None:
    """By its name."""
    experiment = begin(tmp_path)
    experiment.step(0)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit):
        experiment.step(1)
    assert (ended(tmp_path)["how"], ended(tmp_path)["error"]) == ("interrupted", "SIGTERM")


CODE = """
import os, signal, sys, keepfast
experiment = keepfast.Experiment({"directory": sys.argv[1], "experiment_name": "run", "writers": ["jsonl"]})
experiment.step(0)
%s
"""


@pytest.mark.parametrize(
    ("end", "how", "error"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", None),
        ("raise ValueError('wrong')", "failed", "ValueError: wrong"),
        ("pass", "finished", None),
    ],
)
def test_a_process_that_ends_without_close_is_noticed(tmp_path: Path, end: str, how: str, error: str | None) -> None:
    """At its exit, or, where it was killed, by whoever looks and by the next start."""
    subprocess.run([sys.executable, "-c", CODE % end, str(tmp_path)], capture_output=True, timeout=120)
    run = read_run(tmp_path / "run")
    assert (run.status, run.error) == (how, error)
    with begin(tmp_path) as experiment:
        experiment.resume()
    first = read_run(tmp_path / "run").starts[0]["ended"]
    assert (first["how"], first["error"]) == (how, error)
    assert first["time"]


def test_what_a_start_went_on_from_is_told(tmp_path: Path, net: Callable[..., Any]) -> None:
    """The run, the checkpoint, its timestep and its digest, which is that of the index."""
    for _ in range(2):
        with begin(tmp_path, checkpoint_interval=2) as experiment:
            experiment.register(net=net())
            for timestep in range(experiment.resume(), 2 * (_ + 1)):
                experiment.step(timestep)
    run = read_run(tmp_path / "run")
    checkpoint = next(each for each in run.checkpoints if each.timestep == 2)
    (file,) = checkpoint.files.values()
    told = run.starts[1]["resumed"]
    assert told == {"run": str(run.path), "checkpoint": file.name, "timestep": 2, "digest": file.digest}
    assert "resumed" not in run.starts[0]


def test_warnings_are_kept_with_the_run(tmp_path: Path) -> None:
    """Each once, with how often it came, those at the end included."""
    with begin(tmp_path), pytest.warns(keepfast.KeepfastWarning):
        warn("something")
        warn("something")
    assert read_run(tmp_path / "run").starts[-1]["warnings"]["something"] == 2


@pytest.mark.parametrize(("setting", "keys"), [(False, set()), ("without_changes", {"root", "commit", "branch"})])
def test_settings_leave_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: Any, keys: set[str], project: Path
) -> None:
    """All of it, or what differs from the commit; how a run ended is told all the same."""
    monkeypatch.chdir(project)
    begin(tmp_path, provenance=setting).close()
    (start,) = read_run(tmp_path / "run").starts
    assert start["ended"]["how"] == "finished"
    assert start["provenance"].get("git", {}).keys() <= keys
    assert bool(start["provenance"]) == bool(setting)


def test_starts_keep_only_what_changed(tmp_path: Path) -> None:
    """A run that starts a thousand times has its packages once, and each start is read whole."""
    for _ in range(3):
        begin(tmp_path).close()
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["starts"]
    assert ["packages" in start["provenance"] for start in stored] == [True, False, False]
    assert all(start["provenance"]["packages"] for start in read_run(tmp_path / "run").starts)


def test_a_start_costs_training_less_than_50_milliseconds() -> None:
    """All that it does in the training's thread, and what the thread beside it takes of the interpreter."""
    costs = []
    for _ in range(3):
        before = time.process_time()
        origin = Origin(True, lambda: {"seed": 1}, lambda: None)
        origin.document()
        costs.append(time.process_time() - before)
    assert min(costs) < 0.05
