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

MEMORY_SIZE = 8000
ROUNDS = 2
LIMIT = AtLeast(20)


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each framework, for both directions; the rates are of the csv file that we write."""
    for framework, make in (("torch", torch_memories), ("JAX", jax_memories)):
        if not installed(framework.lower(), "skrl"):
            continue
        ours, theirs = make()
        directory = settings.directory / framework
        written = ours.save(directory / "ours", "csv")
        theirs.save(str(directory / "theirs"), "csv")
        (found,) = (directory / "theirs").rglob("*.csv")
        nbytes = written.stat().st_size
        export = clock(lambda ours=ours, to=directory / "export": ours.save(to, "csv"))
        peer = clock(lambda theirs=theirs, to=directory / "skrl": theirs.save(str(to), "csv"))
        peers = {'skrl 1.4.3\'s save("csv")': Peer(peer, LIMIT)}
        yield from compare(f"csv export, {framework}", export, peers, rounds=ROUNDS, nbytes=nbytes)
        imported = clock(lambda written=written: keepfast.read_memory(written))
        peers = {"skrl 1.4.3's MemoryFileIterator": Peer(clock(lambda found=found: read_with_skrl(found)), LIMIT)}
        yield from compare(f"csv import, {framework}", imported, peers, rounds=ROUNDS, nbytes=nbytes)


def read_with_skrl(path: Path) -> None:
    """Read a file of skrl's."""
    from skrl.utils.postprocessing import MemoryFileIterator

    for _name, _data in MemoryFileIterator(str(path)):
        pass


def torch_memories() -> tuple[Any, Any]:
    """Return our memory and skrl's on PyTorch, full of the same samples."""
    import torch
    from skrl.memories.torch import RandomMemory

    import keepfast_torch

    samples = {name: torch.from_numpy(tensor) for name, tensor in host_samples(MEMORY_SIZE).items()}
    made = [kind(MEMORY_SIZE, len(samples["states"][0]), "cpu") for kind in (keepfast_torch.RandomMemory, RandomMemory)]
    for memory in made:
        create_tensors(memory, torch)
        fill(memory, samples)
    return made[0], made[1]


def jax_memories() -> tuple[Any, Any]:
    """Return our memory on JAX and skrl's on JAX, full of the same samples."""
    import jax.numpy as jnp
    from skrl.memories.jax import RandomMemory

    import keepfast_jax

    samples = host_samples(MEMORY_SIZE)
    made = [kind(MEMORY_SIZE, len(samples["states"][0])) for kind in (keepfast_jax.RandomMemory, RandomMemory)]
    for memory in made:
        create_tensors(memory, jnp)
        fill(memory, samples)
    return made[0], made[1]
