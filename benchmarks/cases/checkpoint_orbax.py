"""A durable checkpoint of a Flax state, against Orbax's StandardCheckpointer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keepfast
from benchmarks.measure import AtLeast, Peer, Row, Settings, clock, compare, installed, median
from benchmarks.states import train_state

SIZES = (1, 4, 16)
ROUNDS = 9


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each size."""
    if not installed("jax", "orbax"):
        return
    for size in SIZES:
        state = train_state(size * 1_000_000)
        path = settings.directory / "ours.safetensors"
        ours = clock(lambda state=state, path=path: keepfast.save(state, path), before=os.sync)
        peer = Peer(clock(orbax_save(state, settings.directory), before=os.sync), AtLeast(5))
        peers = {"Orbax StandardCheckpointer": peer}
        yield from compare(f"durable Flax state, {size} MB", ours, peers, rounds=ROUNDS, summary=median)


def orbax_save(state: Any, directory: Path) -> Callable[[], object]:
    """Return what saves a state with Orbax and waits until it says that it is done."""
    import orbax.checkpoint

    checkpointer = orbax.checkpoint.StandardCheckpointer()
    path = (directory / "orbax").resolve()

    def save() -> None:
        checkpointer.save(path, state, force=True)
        checkpointer.wait_until_finished()

    return save
