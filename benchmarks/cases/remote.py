"""How long a run on an object store blocks training, against the same run on a disk.

The store is a directory behind fsspec, so that uploads take the machine's own disk and processor, and no network hides
them: what goes up is read, put and listed while training goes on. In the rows of checkpoints the one before is on the
disk, and on the store, when a round begins; in that of steps, checkpoints go up the whole time, and metrics ten times a
second.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import keepfast
from benchmarks.measure import AtMost, Peer, Round, Row, Settings, clock, compare, installed, median
from benchmarks.states import torch_modules

LIMIT = AtMost(1.1, constant=1e-3)
SIZES = (1, 16)
ROUNDS = 15
STEPS = 2000


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for a checkpoint of each size, and one for steps."""
    if not installed("fsspec") or not installed("torch"):
        return
    os.environ["KEEPFAST_SPOOL"] = str(settings.directory / "spool")
    for size in SIZES:
        modules = torch_modules(size * 1_000_000)
        remote, local = (agent_at(where, modules) for where in places(settings.directory))
        peers = {"a run on a disk": Peer(checkpoint_round(local), LIMIT)}
        what = f"a checkpoint of a run on an object store blocks, {size} MB"
        yield from compare(what, checkpoint_round(remote), peers, rounds=ROUNDS, summary=median)
        end(remote, local, settings.directory)
    modules = torch_modules(1_000_000)
    remote, local = (
        agent_at(where, modules, checkpoint_interval=200, upload_interval=0.1) for where in places(settings.directory)
    )
    peers = {"a run on a disk": Peer(steps_round(local), LIMIT)}
    what = f"{STEPS} steps of a run on an object store, a checkpoint each 200"
    yield from compare(what, steps_round(remote), peers, rounds=ROUNDS, summary=median)
    end(remote, local, settings.directory)


def places(directory: Path) -> tuple[str, str]:
    """Return where a run on a store is, and one on a disk."""
    return f"file://{directory.absolute()}/store", str(directory / "disk")


def agent_at(directory: str, modules: dict[str, Any], **settings: Any) -> keepfast.Agent:
    """Return an agent of a run at a place."""
    chosen = {"writers": ["jsonl"], "keep_last": 1, "write_interval": 10, **settings}
    agent = keepfast.Agent(cfg={"experiment": {"directory": directory, **chosen}})
    agent.checkpoint_modules.update(modules)
    return agent


def checkpoint_round(agent: keepfast.Agent) -> Round:
    """Return a round that takes a checkpoint when the one before is where it belongs."""
    counter = itertools.count(1)
    return clock(lambda: agent.write_checkpoint(next(counter)), before=agent.wait)


def steps_round(agent: keepfast.Agent) -> Round:
    """Return a round that trains, but for the training."""
    counter = itertools.count()
    rewards, ended = np.ones(1, np.float32), np.zeros(1, bool)

    def train() -> None:
        for timestep in itertools.islice(counter, STEPS):
            agent.record_transition(None, None, rewards, None, ended, ended, {}, timestep, 10**9)
            agent.post_interaction(timestep, 10**9)

    return clock(train)


def end(remote: keepfast.Agent, local: keepfast.Agent, directory: Path) -> None:
    """Close both, and leave nothing of them."""
    for agent in (remote, local):
        agent.close()
    for name in ("store", "disk", "spool"):
        shutil.rmtree(directory / name, ignore_errors=True)
