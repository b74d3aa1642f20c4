"""In a distributed run on PyTorch, one process writes and all of them resume."""

from __future__ import annotations

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


class TestDistributed(Torch, DistributedSuite):
    program = PROGRAM

    def surroundings(self, port: int, rank: str) -> dict[str, str]:
        own = {"RANK": rank, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **own}
