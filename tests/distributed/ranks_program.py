"""What each process of a distributed run does in the tests: arguments are framework, directory, rank, size, address.

Settings come as JSON from the environment: ``dies`` (rank, timestep, how), ``size`` of the memory, and those of the
experiment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import numpy as np

framework, directory, rank, size, address = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
given = json.loads(os.environ["RANKS"])

if framework == "torch":
    import torch
    import torch.distributed as dist

    import keepfast_torch as backend

    dist.init_process_group("gloo", init_method=f"tcp://{address}", rank=rank, world_size=size)
    torch.manual_seed(rank)
else:
    import jax

    import keepfast_jax as backend  # type: ignore[no-redef]

    jax.distributed.initialize(address, num_processes=size, process_id=rank, heartbeat_timeout_seconds=20)

import keepfast  # noqa: E402  (after the group, which it finds then)


def array(values: Any) -> Any:
    return torch.as_tensor(values) if framework == "torch" else jax.numpy.asarray(values)


rng = np.random.default_rng(rank)
memory = backend.RandomMemory(memory_size=12, num_envs=2)
memory.create_tensor("x", 1)
weight = np.zeros(2)
cfg = {"directory": directory, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 4}
cfg |= {"checkpoint_interval": 6, "distributed_metrics": "mean", "distributed_memories": "each"}
experiment = keepfast.Experiment({**cfg, **given.get("settings", {})}, timesteps=20)
with experiment:
    experiment.register(net={"weight": weight}, memory=memory, generator={"rng": rng} if rank < 0 else weight * 0)
    start = experiment.resume()
    for timestep in range(start, 20):
        drawn = float(np.random.random())  # noqa: NPY002  (the generator of everybody, which checkpoints hold)
        weight += 1
        memory.add_samples(x=array(np.full((2, 1), 100.0 * rank + timestep, np.float32)))
        experiment.track_data("Loss / Drawn", drawn)
        experiment.track_data("Loss / Rank", array(np.float32(rank)))
        if rank == size - 1:
            experiment.track_data("Loss / Of the last", 1.0)
        if timestep == 1:
            experiment.track_data("Loss / Rank", float("nan"))
        experiment.record_transition(
            array(np.full(2, float(rank), np.float32)), array(np.full(2, timestep % 4 == 3)), array(np.zeros(2, bool))
        )
        experiment.step(timestep)
        if given.get("dies", [None, None])[:2] == [rank, timestep] and start == 0:
            if given["dies"][2] == "sleeps":
                time.sleep(12)
            os.kill(os.getpid(), signal.SIGKILL)
    experiment.wait()
    rows = np.asarray(memory.get_tensor_by_name("x"))[:, 0, 0].tolist()
    told = {"start": start, "best": experiment.best_score, "memory": rows, "improved": experiment.improved_within(9)}
print(json.dumps(told), flush=True)
if given.get("dies"):
    os._exit(0)  # whoever is gone is not waited for
if framework == "torch":
    dist.destroy_process_group()
