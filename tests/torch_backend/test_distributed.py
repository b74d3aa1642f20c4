"""In a distributed run on PyTorch, one process writes and all of them resume."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.both_backends.distributed import DistributedSuite
from tests.torch_backend.framework import Torch

PROGRAM = """
import sys, torch, keepfast
import torch.distributed as dist

dist.init_process_group("gloo")
net = torch.nn.Linear(2, 2)
cfg = {"directory": sys.argv[1], "experiment_name": "run", "writers": ["tensorboard", "jsonl"]}
cfg["distributed_metrics"] = "mean"
with keepfast.Experiment({**cfg, "write_interval": 5, "checkpoint_interval": 10}, timesteps=20) as experiment:
    experiment.register(net=net)
    start = experiment.resume()
    for timestep in range(start, 20):
        with torch.no_grad():
            net.weight.fill_(timestep + 1)
        experiment.track_data("Loss / Loss", float(dist.get_rank()))
        experiment.record_transition(torch.ones(3), torch.ones(3), torch.zeros(3))
        experiment.step(timestep)
        dist.barrier()
    experiment.wait()
    dist.barrier()
    print(dist.get_rank(), start, float(net.weight[0, 0]))
dist.destroy_process_group()
"""


class TestDistributed(Torch, DistributedSuite):
    program = PROGRAM

    def surroundings(self, port: int, rank: str) -> dict[str, str]:
        own = {"RANK": rank, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **own}


LATE = """
import sys, torch, keepfast
import torch.distributed as dist
import torch.multiprocessing as mp


def train(rank, directory, port, name):
    cfg = {"directory": directory, "experiment_name": name.format(rank), "writers": ["tensorboard", "jsonl"]}
    net = torch.nn.Linear(2, 2)
    experiment = keepfast.Experiment({**cfg, "write_interval": 5, "checkpoint_interval": 10}, timesteps=20)
    experiment.register(net=net)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    with experiment:
        for timestep in range(experiment.resume(), 20):
            experiment.track_data("Loss / Loss", 1.0)
            experiment.step(timestep)
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(train, sys.argv[1:], nprocs=2)
"""


def spawn(directory: Path, name: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = directory / "late.py"
    program.write_text(LATE)
    command = [sys.executable, str(program), str(directory / "runs"), port, name]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def test_ranks_that_know_each_other_late_leave_one_run(tmp_path: Path) -> None:
    """Of processes that make their experiments before the group, the first alone writes; the other says so."""
    ran = spawn(tmp_path, "rank-{}")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("rank 1 of a distributed run, as told by the process group of `torch`") == 1
    assert [run.name for run in (tmp_path / "runs").iterdir()] == ["rank-0"]
    assert len((tmp_path / "runs" / "rank-0" / "metrics.jsonl").read_text().splitlines()) == 4


def test_ranks_that_share_a_directory_before_they_know_each_other_are_told(tmp_path: Path) -> None:
    """The second gets an error that says to make the experiment after the process group."""
    ran = spawn(tmp_path, "run")
    assert ran.returncode != 0
    assert "make the experiment after the process group" in ran.stderr
