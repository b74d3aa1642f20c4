"""A timestep's tracking: record_transition and post_interaction, against skrl 1.4.3's.

Both agents get the same rewards and dones, and both write their statistics to TensorBoard at the same interval; that
is part of what is timed. Checkpoints are off.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import keepfast
from benchmarks.measure import AtLeast, Limit, Peer, Round, Row, Settings, compare, installed

EPISODE_LENGTH = 200
"""How long an episode is on average, in timesteps."""

POOL = 256
"""How many different timesteps the environments give, over and over."""

ROUNDS = 7

Timesteps = list[tuple[Any, Any, Any]]
"""Rewards, terminated and truncated of each timestep, of shape (num_envs, 1)."""

# environments, timesteps a round, timesteps between writes, what was promised
SCALES: list[tuple[int, int, int, Limit]] = [
    (1, 2000, 1000, AtLeast(10)),
    (64, 2000, 1000, AtLeast(10)),
    (4096, 600, 300, AtLeast(3)),
]


def rows(settings: Settings) -> Iterator[Row]:
    """Yield two rows for each kind of array and number of environments: for an experiment, and for an agent."""
    for kind, as_array, make_peer in kinds():
        for num_envs, timesteps, interval, limit in SCALES:
            pool = [tuple(as_array(part) for part in step) for step in host_timesteps(num_envs)]
            directory = settings.directory / kind / str(num_envs)
            agent = keepfast.Agent(cfg=configuration(directory / "agent", interval))
            experiment = keepfast.Experiment(configuration(directory / "experiment", interval))
            peer = make_peer(configuration(directory / "peer", interval))
            peers = {"skrl 1.4.3": Peer(agent_round(peer, pool, timesteps), limit)}
            for call, ours in (
                ("step", experiment_round(experiment, pool, timesteps)),
                ("post_interaction", agent_round(agent, pool, timesteps)),
            ):
                what = f"record_transition + {call}, {kind}, {num_envs} environments"
                yield from per_timestep(compare(what, ours, peers, rounds=ROUNDS), timesteps)
            agent.close()
            experiment.close()


def per_timestep(found: Iterator[Row], timesteps: int) -> Iterator[Row]:
    """Divide what a round took by its timesteps."""
    for row in found:
        yield Row(row.what, row.against, row.ours / timesteps, row.theirs / timesteps, row.limit)


def configuration(directory: Path, interval: int) -> dict[str, Any]:
    """Return a configuration that both libraries take."""
    experiment = {"directory": str(directory), "write_interval": interval, "checkpoint_interval": 0}
    return {"experiment": experiment}


def host_timesteps(num_envs: int) -> Timesteps:
    """Return timesteps as NumPy arrays."""
    random = np.random.default_rng(0)
    shape = (POOL, num_envs, 1)
    rewards = random.standard_normal(shape, dtype=np.float32)
    terminated = random.random(shape) < 1 / EPISODE_LENGTH
    return list(zip(rewards, terminated, np.zeros(shape, bool), strict=True))


def agent_round(agent: Any, pool: Timesteps, timesteps: int) -> Round:
    """Return a round of an agent's calls, which are the same in both libraries."""
    counter = itertools.count(0, timesteps)

    def one_round() -> float:
        first = next(counter)
        start = time.perf_counter()
        for timestep in range(first, first + timesteps):
            rewards, terminated, truncated = pool[timestep % POOL]
            agent.record_transition(None, None, rewards, None, terminated, truncated, None, timestep, None)
            agent.post_interaction(timestep, None)
        return time.perf_counter() - start

    return one_round


def experiment_round(experiment: keepfast.Experiment, pool: Timesteps, timesteps: int) -> Round:
    """Return a round of an experiment's calls."""
    counter = itertools.count(0, timesteps)

    def one_round() -> float:
        first = next(counter)
        start = time.perf_counter()
        for timestep in range(first, first + timesteps):
            experiment.record_transition(*pool[timestep % POOL])
            experiment.step(timestep)
        return time.perf_counter() - start

    return one_round


def kinds() -> Iterator[tuple[str, Callable[[Any], Any], Callable[[dict[str, Any]], Any]]]:
    """Yield each kind of array: its name, what makes one of a NumPy array, and what makes skrl's agent for it."""
    if installed("torch", "skrl"):
        import torch

        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            yield f"torch on {device}", lambda array, device=device: torch.as_tensor(array, device=device), skrl_torch
    if installed("jax", "skrl"):
        import jax

        yield f"JAX on {jax.default_backend()}", jax.numpy.asarray, lambda cfg: skrl_jax("jax", cfg)
        yield "NumPy arrays of JAX environments", np.asarray, lambda cfg: skrl_jax("numpy", cfg)


def skrl_torch(cfg: dict[str, Any]) -> Any:
    """Return an agent of skrl on PyTorch, made as its users make one."""
    from skrl.agents.torch import Agent

    class Peer(Agent):
        pass

    agent = Peer(models={}, cfg=cfg)
    agent.init({"timesteps": 0})
    return agent


def skrl_jax(backend: str, cfg: dict[str, Any]) -> Any:
    """Return an agent of skrl on JAX; its backend says whether environments give JAX arrays or NumPy's."""
    import skrl
    from skrl.agents.jax import Agent

    class Peer(Agent):
        pass

    skrl.config.jax.backend = backend
    agent = Peer(models={}, cfg=cfg)
    agent.init({"timesteps": 0})
    return agent
