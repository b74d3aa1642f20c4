"""A timestep's tracking: record_transition and post_interaction, against skrl's, 1.4.3 and 2.1; and `log` of a dict.

Both agents get the same rewards and dones, and both write their statistics to TensorBoard at the same interval; that
is part of what is timed. Checkpoints are off.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import keepfast
from benchmarks.cases.attached import OTHER_SKRL
from benchmarks.measure import AtLeast, Limit, Peer, Round, Row, Settings, compare, installed

EPISODE_LENGTH = 200
"""How long an episode is on average, in timesteps."""

POOL = 256
"""How many different timesteps the environments give, over and over."""

ROUNDS = 7
TAGS = 20

Timesteps = list[tuple[Any, Any, Any]]
"""Rewards, terminated and truncated of each timestep, of shape (num_envs, 1)."""

# environments, timesteps a round, timesteps between writes, what was promised
SCALES: list[tuple[int, int, int, Limit]] = [
    (1, 2000, 1000, AtLeast(10)),
    (64, 2000, 1000, AtLeast(10)),
    (4096, 600, 300, AtLeast(3)),
]


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows beside each line of skrl, and those of `log`; in the process of the other line those alone."""
    place = os.environ.get(OTHER_SKRL)
    yield from beside_installed(settings)
    if place:
        yield from beside_other(settings.directory / "other", place)
    if place != "":
        yield from log_rows(settings.directory / "log")


def beside_other(directory: Path, place: str) -> Iterator[Row]:
    """Yield the rows of another line of skrl, from a process that has that one."""
    directory.mkdir()
    found, path = directory / "rows", os.pathsep.join(each for each in (place, os.environ.get("PYTHONPATH")) if each)
    environment = {**os.environ, OTHER_SKRL: "", "PYTHONPATH": path}
    command = [sys.executable, "-m", "benchmarks.one_case", "tracking", str(directory), str(found)]
    subprocess.run(command, check=True, env=environment)
    yield from pickle.loads(found.read_bytes())


def beside_installed(settings: Settings) -> Iterator[Row]:
    """Yield two rows for each kind of array and number of environments: for an experiment, and for an agent."""
    for kind, as_array, make_peer in kinds():
        for num_envs, timesteps, interval, limit in SCALES:
            pool = [tuple(as_array(part) for part in step) for step in host_timesteps(num_envs)]
            directory = settings.directory / kind / str(num_envs)
            agent = keepfast.Agent(cfg=configuration(directory / "agent", interval))
            experiment = keepfast.Experiment(configuration(directory / "experiment", interval))
            peer = make_peer(configuration(directory / "peer", interval))
            peers = {f"skrl {skrl_version()}": Peer(peer_round(peer, pool, timesteps), limit)}
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


def peer_round(agent: Any, pool: Timesteps, timesteps: int) -> Round:
    """Return a round of the same calls of skrl's agent, which takes all of it by name since its second version."""
    if skrl_version().startswith("1."):
        return agent_round(agent, pool, timesteps)
    counter = itertools.count(0, timesteps)
    others = dict.fromkeys(("observations", "states", "actions", "next_observations", "next_states", "infos"))

    def one_round() -> float:
        first = next(counter)
        start = time.perf_counter()
        for timestep in range(first, first + timesteps):
            rewards, terminated, truncated = pool[timestep % POOL]
            step = {"rewards": rewards, "terminated": terminated, "truncated": truncated, "timestep": timestep}
            agent.record_transition(**step, **others, timesteps=timesteps)
            agent.post_interaction(timestep=timestep, timesteps=timesteps)
        return time.perf_counter() - start

    return one_round


def log_rows(directory: Path) -> Iterator[Row]:
    """Yield the row of a dict of 20 tags that is logged at once, beside as many scalars that are written one by one."""
    values = {f"Loss / {number}": 0.5 * number for number in range(TAGS)}
    at_once, singly = (keepfast.Experiment(configuration(directory / name, 1000)) for name in ("dict", "calls"))

    def track() -> None:
        for tag, value in values.items():
            singly.writer.add_scalar(tag, value)

    ours, theirs = (steps_round(*pair) for pair in ((at_once, lambda: at_once.log(values)), (singly, track)))
    what = f"log of a dict of {TAGS} tags + step"
    yield from per_timestep(
        compare(what, ours, {f"{TAGS} calls of writer.add_scalar": Peer(theirs)}, rounds=ROUNDS), 1000
    )
    at_once.close()
    singly.close()


def steps_round(experiment: keepfast.Experiment, log: Callable[[], object]) -> Round:
    """Return a round of a thousand timesteps at each of which something is logged."""
    counter = itertools.count(0, 1000)

    def one_round() -> float:
        first = next(counter)
        start = time.perf_counter()
        for timestep in range(first, first + 1000):
            log()
            experiment.step(timestep)
        return time.perf_counter() - start

    return one_round


def skrl_version() -> str:
    """Return the version of skrl that is installed here."""
    return importlib.metadata.version("skrl")


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
    from skrl.agents import torch as line

    return _agent(line, cfg)


def skrl_jax(backend: str, cfg: dict[str, Any]) -> Any:
    """Return an agent of skrl on JAX; its backend says whether environments give JAX arrays or NumPy's."""
    import skrl
    from skrl.agents import jax as line

    skrl.config.jax.backend = backend
    return _agent(line, cfg)


def _agent(line: Any, cfg: dict[str, Any]) -> Any:
    class Peer(line.Agent):  # type: ignore[misc]  # of either line, the second of which has these abstract
        def act(self, *args: Any, **kwargs: Any) -> Any:
            return None

        def update(self, *args: Any, **kwargs: Any) -> None:
            return None

        def pre_interaction(self, *args: Any, **kwargs: Any) -> None:
            return None

        def post_interaction(self, *args: Any, **kwargs: Any) -> None:
            super().post_interaction(*args, **kwargs)

    if skrl_version().startswith("1."):
        agent = Peer(models={}, cfg=cfg)
        agent.init({"timesteps": 0})
        return agent
    base = importlib.import_module(f"{line.__name__}.base")
    agent = Peer(models={}, cfg=base.AgentCfg(experiment=base.ExperimentCfg(**cfg["experiment"])))
    agent.init()
    return agent
