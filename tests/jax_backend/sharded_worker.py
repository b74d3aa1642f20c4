"""One process of a run whose arrays are spread over several, as `test_sharded.py` starts them.

``python sharded_worker.py MODE DIRECTORY RANK SIZE PORT UNTIL``
"""

# ruff: noqa: E402  (JAX is told of its devices before it is imported)

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

MODE, DIRECTORY, RANK, SIZE, PORT, UNTIL = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:7])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={4 // SIZE}"

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_platforms", "cpu")
if SIZE > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{PORT}", SIZE, RANK)

import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import keepfast

MESH = Mesh(np.array(jax.devices()), ("rows",))


def spread(values: Any, *axes: str) -> jax.Array:
    sharding = NamedSharding(MESH, PartitionSpec(*axes))
    return jax.make_array_from_callback(values.shape, sharding, lambda places: values[places])


class Agent:
    def __init__(self) -> None:
        weight = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
        self.params = {"weight": spread(weight, "rows"), "bias": spread(np.zeros(6, np.float32))}
        self.rule = optax.adam(1e-2)
        self.optimizer = jax.jit(self.rule.init)(self.params)
        self.update = jax.jit(self._update, donate_argnums=(0, 1))

    def _update(self, params: Any, optimizer: Any, given: Any) -> Any:
        gradients = jax.grad(lambda params: jnp.square(given @ params["weight"] + params["bias"]).mean())(params)
        updates, optimizer = self.rule.update(gradients, optimizer, params)
        return optax.apply_updates(params, updates), optimizer


together = jax.jit(lambda tree: tree, out_shardings=NamedSharding(MESH, PartitionSpec()))


def state_of(agent: Agent) -> dict[str, Any]:
    """Return all arrays, put together."""
    leaves = jax.tree_util.tree_leaves_with_path(together((agent.params, agent.optimizer)))
    return {jax.tree_util.keystr(path): np.array(leaf.addressable_data(0)) for path, leaf in leaves}


def train() -> None:
    """Go on with a run until a timestep, and keep the state of its beginning and its end."""
    agent = Agent()
    cfg = {"directory": str(DIRECTORY), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}
    with keepfast.Experiment({**cfg, "checkpoint_interval": 2}, timesteps=1000) as experiment:
        experiment.register(params=keepfast.attribute(agent, "params"))
        experiment.register(optimizer=keepfast.attribute(agent, "optimizer"))
        start = experiment.resume()
        first = state_of(agent)
        for timestep in range(start, UNTIL):
            given = np.random.default_rng(timestep).normal(size=(4, 8)).astype(np.float32)
            agent.params, agent.optimizer = agent.update(agent.params, agent.optimizer, given)
            experiment.record_transition(np.full(1, float(timestep)), np.ones(1), np.zeros(1))
            experiment.step(timestep)
        last = state_of(agent)
    if RANK == 0:
        np.savez(DIRECTORY / f"from_{start}.npz", **first)
        np.savez(DIRECTORY / f"to_{UNTIL}.npz", **last)


def fill() -> None:
    """Checkpoint at each timestep an array whose every number is that timestep, until somebody kills a process."""
    agent, size = Agent(), 1 << 20
    agent.params = {"weight": spread(np.zeros(size, np.float32), "rows")}
    following = jax.jit(lambda params: jax.tree.map(lambda leaf: leaf + 1, params), donate_argnums=0)
    cfg = {"directory": str(DIRECTORY), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}
    with keepfast.Experiment({**cfg, "checkpoint_interval": 1, "keep_last": 3}, timesteps=100_000) as experiment:
        experiment.register(params=keepfast.attribute(agent, "params"))
        start = experiment.resume()
        require(agent, start)
        if RANK == 0:
            experiment.when_durable(acknowledge)
        for timestep in range(start, UNTIL):
            agent.params = following(agent.params)
            experiment.step(timestep)


def acknowledge(durable: Any) -> None:
    if not durable.is_best:
        (fresh := DIRECTORY / "fresh").write_text(str(durable.timestep))
        fresh.replace(DIRECTORY / "durable")  # a kill may come between the opening of a file and the writing


def require(agent: Agent, timestep: int) -> None:
    parts = [np.asarray(shard.data) for shard in agent.params["weight"].addressable_shards]
    assert all((part == timestep).all() for part in parts), timestep
    if RANK == 0:
        (DIRECTORY / "resumed").write_text(str(timestep))


if __name__ == "__main__":
    {"train": train, "fill": fill}[MODE]()
    if SIZE > 1:
        jax.distributed.shutdown()
