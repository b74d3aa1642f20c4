"""Memories to csv and back, against skrl 1.4.3's save("csv") and its MemoryFileIterator.

No package is used that the torch or the jax extra alone does not install.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keepfast
from benchmarks.measure import AtLeast, Peer, Row, Settings, clock, compare, installed
from benchmarks.memories import create_tensors, fill, host_samples

ROUNDS = {3: 5, 30: 2}
"""By the megabytes of the csv file."""

BYTES_PER_ROW = 3_300
"""About how long the text of a row of all environments is."""

LIMIT = AtLeast(20)


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each framework, for both directions; the rates are of the csv file that we write."""
    for framework, make in (("torch", torch_memories), ("JAX", jax_memories)):
        if installed(framework.lower(), "skrl"):
            for size in ROUNDS:
                memories = make(size * 1_000_000 // BYTES_PER_ROW)
                yield from both_directions(f"{size} MB, {framework}", size, *memories, settings.directory / framework)


def both_directions(what: str, size: int, ours: Any, theirs: Any, directory: Path) -> Iterator[Row]:
    """Yield the rows of one framework and size."""
    directory = directory / str(size)
    written = ours.save(directory / "ours", "csv")
    theirs.save(str(directory / "theirs"), "csv")
    (found,) = (directory / "theirs").rglob("*.csv")
    how = {"rounds": ROUNDS[size], "nbytes": written.stat().st_size}
    peer = Peer(clock(lambda: theirs.save(str(directory / "skrl"), "csv")), LIMIT)
    export = clock(lambda: ours.save(directory / "export", "csv"))
    yield from compare(f"csv export, {what}", export, {'skrl 1.4.3\'s save("csv")': peer}, **how)
    peer = Peer(clock(lambda: read_with_skrl(found)), LIMIT)
    imported = clock(lambda: keepfast.read_memory(written))
    yield from compare(f"csv import, {what}", imported, {"skrl 1.4.3's MemoryFileIterator": peer}, **how)


def read_with_skrl(path: Path) -> None:
    """Read a file of skrl's."""
    from skrl.utils.postprocessing import MemoryFileIterator

    for _name, _data in MemoryFileIterator(str(path)):
        pass


def torch_memories(memory_size: int) -> tuple[Any, Any]:
    """Return our memory and skrl's on PyTorch, full of the same samples."""
    import torch
    from skrl.memories.torch import RandomMemory

    import keepfast_torch

    samples = {name: torch.from_numpy(tensor) for name, tensor in host_samples(memory_size).items()}
    made = [kind(memory_size, len(samples["states"][0]), "cpu") for kind in (keepfast_torch.RandomMemory, RandomMemory)]
    for memory in made:
        create_tensors(memory, torch)
        fill(memory, samples)
    return made[0], made[1]


def jax_memories(memory_size: int) -> tuple[Any, Any]:
    """Return our memory on JAX and skrl's on JAX, full of the same samples."""
    import jax.numpy as jnp
    from skrl.memories.jax import RandomMemory

    import keepfast_jax

    samples = host_samples(memory_size)
    made = [kind(memory_size, len(samples["states"][0])) for kind in (keepfast_jax.RandomMemory, RandomMemory)]
    for memory in made:
        create_tensors(memory, jnp)
        fill(memory, samples)
    return made[0], made[1]
