"""A durable checkpoint of separate files, nine tenths of it unchanged, against writing and fsyncing the rest raw."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keepfast
from benchmarks.cases.checkpoint_durable import durable, write_raw
from benchmarks.measure import AtMost, Peer, Round, Row, Settings, clock, compare, installed, median
from benchmarks.states import layer_widths

LIMIT = AtMost(2.0)
SIZE, FROZEN = 64, 0.9
"""The megabytes of the state, and which part of it does not change."""

ROUNDS = 9
FILES = 4
"""How many fsyncs such a checkpoint needs: of what changed, of the index, and of their folder twice."""


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each framework."""
    for framework, make in (("torch", torch_nets), ("JAX", jax_nets)):
        if installed(framework.lower()):
            yield from framework_rows(framework, make, settings.directory / framework)


def framework_rows(
    framework: str, make: Callable[[], tuple[Any, Any, Callable[[], object]]], path: Path
) -> Iterator[Row]:
    """Yield the rows of one framework: of what changed, and of the whole state beside it."""
    path.mkdir(parents=True)
    changed, whole = (os.urandom(int(SIZE * 1_000_000 * part)) for part in (1 - FROZEN, 1))
    peers = {
        "a raw write and fsync of what changed": Peer(durable(partial(write_raw, path / "raw", changed)), LIMIT),
        f"the same and {FILES - 1} more fsyncs of as many small files": Peer(
            durable(partial(write_several, path, changed))
        ),
        "a raw write and fsync of all": Peer(durable(partial(write_raw, path / "all", whole))),
        "all in one file": Peer(checkpoints(*make(), path / "together", separately=False)),
    }
    what = f"checkpoint of {SIZE} MB in separate files, {FROZEN:.0%} unchanged, {framework}"
    ours = checkpoints(*make(), path / "separately", separately=True)
    yield from compare(what, ours, peers, rounds=ROUNDS, summary=median, nbytes=len(changed))


def checkpoints(trunk: Any, head: Any, train: Callable[[], object], directory: Path, *, separately: bool) -> Round:
    """Return a round that trains and has a checkpoint on disk, of which the second is timed."""
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": [], "keep_last": 2, "provenance": False}
    cfg |= {"store_separately": separately, "async_checkpoints": False, "checkpoint_interval": 1, "write_interval": 0}
    experiment = keepfast.Experiment(cfg, timesteps=1_000_000)
    experiment.register(trunk=trunk, head=head)
    steps = iter(range(1_000_000))

    def before() -> None:
        train()
        os.sync()

    return clock(lambda: experiment.step(next(steps)), before=before)


def torch_nets() -> tuple[Any, Any, Callable[[], object]]:
    """Return two networks, and what changes the second."""
    import torch

    def net(part: float) -> Any:
        layers, width = layer_widths(int(3 * SIZE * 1_000_000 * part))
        return torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(layers)))

    trunk, head = net(FROZEN), net(1 - FROZEN)

    def train() -> None:
        with torch.no_grad():
            for parameter in head.parameters():
                parameter += 1

    return trunk, head, train


def jax_nets() -> tuple[Any, Any, Callable[[], object]]:
    """Return two pytrees, and what changes the second."""
    import jax

    def net(part: float) -> Any:
        layers, width = layer_widths(int(3 * SIZE * 1_000_000 * part))
        keys = jax.random.split(jax.random.key(0), layers)
        return {str(number): jax.random.normal(key, (width, width)) for number, key in enumerate(keys)}

    owner = SimpleNamespace(trunk=net(FROZEN), head=net(1 - FROZEN))

    def train() -> None:
        owner.head = jax.block_until_ready(jax.tree.map(lambda array: array + 1, owner.head))

    return keepfast.attribute(owner, "trunk"), keepfast.attribute(owner, "head"), train


def write_several(directory: Path, data: bytes) -> None:
    """Write bytes and as many small files as a checkpoint fsyncs beside them."""
    write_raw(directory / "raw", data)
    for number in range(FILES - 1):
        write_raw(directory / f"small {number}", data[:4096])
