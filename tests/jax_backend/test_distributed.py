"""In a distributed run on JAX, one process writes and all of them resume."""

from __future__ import annotations

import pytest

pytest.importorskip("jax")

from tests.both_backends.distributed import DistributedSuite
from tests.jax_backend.framework import Jax

PROGRAM = """
import sys, jax
jax.distributed.initialize(sys.argv[2], num_processes=2, process_id=int(sys.argv[3]))
import numpy as np, keepfast


class Owner:
    params = {"weight": np.zeros((2, 2), np.float32)}


owner = Owner()
owner.params = {"weight": jax.device_put(np.zeros((2, 2), np.float32), jax.local_devices()[0])}
cfg = {"directory": sys.argv[1], "experiment_name": "run", "writers": ["tensorboard", "jsonl"]}
cfg["distributed_metrics"] = "mean"
with keepfast.Experiment({**cfg, "write_interval": 5, "checkpoint_interval": 10}, timesteps=20) as experiment:
    experiment.register(net=keepfast.attribute(owner, "params"))
    start = experiment.resume()
    for timestep in range(start, 20):
        owner.params = {"weight": owner.params["weight"] + 1}
        experiment.track_data("Loss / Loss", float(jax.process_index()))
        experiment.record_transition(np.ones(3), np.ones(3), np.zeros(3))
        experiment.step(timestep)
    print(jax.process_index(), start, float(owner.params["weight"][0, 0]))
"""


class TestDistributed(Jax, DistributedSuite):
    program = PROGRAM

    def surroundings(self, port: int, rank: str) -> dict[str, str]:
        return {"JAX_COMPILATION_CACHE_DIR": ""}  # two processes at once would share it
