"""In a distributed run on JAX, one process writes and all of them resume."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")

PROGRAM = """
import sys, jax
jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[3]))
import numpy as np, keepfast


class Owner:
    params = {"weight": np.zeros((2, 2), np.float32)}


owner = Owner()
owner.params = {"weight": jax.device_put(np.zeros((2, 2), np.float32), jax.local_devices()[0])}
cfg = {"directory": sys.argv[1], "experiment_name": "run", "writers": ["tensorboard", "jsonl"]}
with keepfast.Experiment({**cfg, "write_interval": 5, "checkpoint_interval": 10}, timesteps=20) as experiment:
    experiment.register(net=keepfast.attribute(owner, "params"))
    start = experiment.resume()
    for timestep in range(start, 20):
        owner.params = {"weight": owner.params["weight"] + 1}
        experiment.track_data("Loss / Loss", 1.0)
        experiment.record_transition(np.ones(3), np.ones(3), np.zeros(3))
        experiment.step(timestep)
    print(jax.process_index(), start, float(owner.params["weight"][0, 0]))
"""


def run_two(directory: Path) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, str(directory), address, rank],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return outputs


def test_two_processes_leave_one_run(tmp_path: Path) -> None:
    """Two processes of jax.distributed leave one event file, one jsonl and one set of checkpoints; both resume."""
    assert run_two(tmp_path) == ["0 0 20.0", "1 0 20.0"]
    run = tmp_path / "run"
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4
    names = {path.name for path in (run / "checkpoints").iterdir()}
    expected = {"agent_10.safetensors", "agent_20.safetensors", "best_agent.safetensors", "index.json"}
    assert names - {".index.lock"} == expected
    assert run_two(tmp_path) == ["0 20 20.0", "1 20 20.0"]
