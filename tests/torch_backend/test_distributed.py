"""In a distributed run on PyTorch, one process writes and all of them resume."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

PROGRAM = """
import sys, torch, keepfast
import torch.distributed as dist

dist.init_process_group("gloo")
net = torch.nn.Linear(2, 2)
cfg = {"directory": sys.argv[1], "experiment_name": "run", "writers": ["tensorboard", "jsonl"]}
with keepfast.Experiment({**cfg, "write_interval": 5, "checkpoint_interval": 10}, timesteps=20) as experiment:
    experiment.register(net=net)
    start = experiment.resume()
    for timestep in range(start, 20):
        with torch.no_grad():
            net.weight.fill_(timestep + 1)
        experiment.track_data("Loss / Loss", 1.0)
        experiment.record_transition(torch.ones(3), torch.ones(3), torch.zeros(3))
        experiment.step(timestep)
        dist.barrier()
    experiment.wait()
    dist.barrier()
    print(dist.get_rank(), start, float(net.weight[0, 0]))
dist.destroy_process_group()
"""


def run_two(directory: Path) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(directory)]
    processes = [
        subprocess.Popen(command, env={**os.environ, **shared, "RANK": rank}, stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    outputs = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return outputs


def test_two_processes_leave_one_run(tmp_path: Path) -> None:
    """Two gloo processes leave one event file, one jsonl and one set of checkpoints; started again, both resume."""
    assert run_two(tmp_path) == ["0 0 20.0", "1 0 20.0"]
    run = tmp_path / "run"
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names - {".index.lock"} == {"agent_10.pt", "agent_20.pt", "best_agent.pt", "index.json"}
    assert run_two(tmp_path) == ["0 20 20.0", "1 20 20.0"]
