"""The example under Hydra, the real one: a sweep that is killed and started again is the one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import keepfast
from keepfast.testing.checkpoint_store import assert_same

pytest.importorskip("hydra")

SWEEP = ("-m", "lr=0.1,0.01", "seed=1,2")
NAMES = [f"lr={lr},seed={seed}" for lr in ("0.1", "0.01") for seed in (1, 2)]


def started(project: Path, directory: Path, *overrides: str) -> subprocess.Popen[str]:
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(project / "examples" / "hydra" / "train.py"), *overrides]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> None:
    try:
        told, _ = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 0, told


def test_a_sweep_that_is_killed_goes_on_where_it_broke_off(project: Path, tmp_path: Path) -> None:
    """Killed in its third run; the same command passes over two, completes that one, and trains the last."""
    finished(started(project, tmp_path / "through", *SWEEP))
    process = started(project, tmp_path / "killed", *SWEEP)
    checkpoints = tmp_path / "killed" / "runs" / NAMES[2] / "checkpoints"
    while not list(checkpoints.glob("agent_*.pt")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    told, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, told
    assert not (tmp_path / "killed" / "runs" / NAMES[3]).exists()
    untouched = [(tmp_path / "killed" / "runs" / name / "metrics.jsonl").read_bytes() for name in NAMES[:2]]
    finished(started(project, tmp_path / "killed", *SWEEP))
    assert untouched == [(tmp_path / "killed" / "runs" / name / "metrics.jsonl").read_bytes() for name in NAMES[:2]]
    for name in NAMES:
        ours, theirs = (tmp_path / each / "runs" / name for each in ("killed", "through"))
        assert_same(
            *(dict(keepfast.read_checkpoint(each / "checkpoints" / "agent_1000.pt")) for each in (ours, theirs))
        )
        values = [keepfast.read_metrics(each)["Loss / Distance"].values for each in (ours, theirs)]
        np.testing.assert_array_equal(*values)
        assert (ours / ".hydra" / "config.yaml").exists()


def test_a_single_run_lies_where_its_name_says(project: Path, tmp_path: Path) -> None:
    """Its directory is Hydra's and Keepfast's, and the settings of both are in it."""
    finished(started(project, tmp_path, "lr=0.5", "timesteps=100"))
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "lr=0.5,seed=1"
    assert {"config.json", ".hydra", "metrics.jsonl", "checkpoints"} <= {path.name for path in run.iterdir()}
    assert '"lr": 0.5' in (run / "config.json").read_text("utf-8")
