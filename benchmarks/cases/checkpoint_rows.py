"""A checkpoint of a replay memory with few new samples, against writing and fsyncing their bytes raw."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keepfast
from benchmarks.cases.checkpoint_durable import durable, write_raw
from benchmarks.measure import AtMost, Peer, Round, Row, Settings, clock, compare, installed, median
from benchmarks.memories import host_samples, rows_for

LIMIT = AtMost(2.0)
SIZE, PART = 64, 100
"""The megabytes of the memory, and of which part of it the samples are new."""

ROUNDS = 9
FILES = 5
"""How many fsyncs such a checkpoint needs: of the rows, the checkpoint and the index, and of two folders."""


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each framework."""
    for framework, make in (("torch", torch_memory), ("JAX", jax_memory)):
        if installed(framework.lower()):
            yield from framework_rows(framework, make, settings.directory / framework)


def framework_rows(framework: str, make: Callable[[dict[str, Any]], Any], directory: Path) -> Iterator[Row]:
    """Yield the rows of one framework: by the new rows, and the whole memory beside it."""
    samples = host_samples(rows_for(SIZE * 1_000_000))
    count = len(samples["states"]) // PART
    new = {name: tensor[:count] for name, tensor in samples.items()}
    data = os.urandom(sum(tensor.nbytes for tensor in new.values()))
    ours = checkpoints(make(samples), new, directory / "log", "log")
    whole = checkpoints(make(samples), new, directory / "whole", "whole")
    peers = {
        "a raw write and fsync of the new samples": Peer(durable(lambda: write_raw(directory / "raw", data)), LIMIT),
        f"the same and {FILES - 1} more fsyncs of as many small files": Peer(
            durable(lambda: write_several(directory, data)), LIMIT
        ),
        'the whole memory, `memory_checkpoints = "whole"`': Peer(whole),
    }
    if framework == "JAX" and installed("flashbax", "tensorstore"):
        peers["flashbax Vault, not durable"] = Peer(vault(samples, count, directory / "vault"))
    what = f"checkpoint of a {SIZE} MB memory with 1 % new samples, {framework}"
    yield from compare(what, ours, peers, rounds=ROUNDS, summary=median, nbytes=len(data))


def checkpoints(memory: Any, new: dict[str, Any], directory: Path, way: str) -> Round:
    """Return a round that adds samples and has a checkpoint on disk, of which the second is timed."""
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": [], "keep_last": 2}
    experiment = keepfast.Experiment({**cfg, "memory_checkpoints": way, "provenance": False}, timesteps=1_000_000)
    experiment.register(memory=memory)
    steps = iter(range(1, 1_000_000))

    def add() -> None:
        memory.add_samples(**new)
        os.sync()

    def store() -> None:
        experiment.write_checkpoint(next(steps))
        experiment.wait()

    return clock(store, before=add)


def write_several(directory: Path, data: bytes) -> None:
    """Write the bytes to a file and a few to others, and wait for each, and for each folder, until it is on disk."""
    write_raw(directory / "raw", data)
    for number in range(2):
        write_raw(directory / f"small-{number}", data[:4096])
    for folder in (directory, directory.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def torch_memory(samples: dict[str, Any]) -> Any:
    """Return a full memory on PyTorch."""
    import torch

    import keepfast_torch

    return filled(keepfast_torch.RandomMemory(*samples["states"].shape[:2], "cpu"), samples, torch.float32, torch.bool)


def jax_memory(samples: dict[str, Any]) -> Any:
    """Return a full memory on JAX."""
    import jax.numpy as jnp

    import keepfast_jax

    return filled(keepfast_jax.RandomMemory(*samples["states"].shape[:2]), samples, jnp.float32, bool)


def filled(memory: Any, samples: dict[str, Any], number: Any, truth: Any) -> Any:
    """Return a memory with a tensor for each array, and the samples in it."""
    for name, tensor in samples.items():
        memory.create_tensor(name, tensor.shape[-1], truth if tensor.dtype == bool else number)
    memory.add_samples(**samples)
    return memory


def vault(samples: dict[str, Any], count: int, directory: Path) -> Round:
    """Return a round of flashbax' Vault, which writes what was added since it wrote last."""
    import flashbax
    import jax
    import jax.numpy as jnp
    from flashbax.vault import Vault

    memory_size, num_envs = samples["states"].shape[:2]
    buffer = flashbax.make_trajectory_buffer(
        add_batch_size=num_envs,
        sample_batch_size=1,
        sample_sequence_length=1,
        period=1,
        min_length_time_axis=1,
        max_length_time_axis=memory_size,
    )
    host = {name: jnp.asarray(tensor.swapaxes(0, 1)) for name, tensor in samples.items()}
    add = jax.jit(buffer.add, donate_argnums=0)
    state = [add(buffer.init({name: tensor[0, 0] for name, tensor in host.items()}), host)]
    writer = Vault("vault", state[0].experience, rel_dir=str(directory), vault_uid="run")
    writer.write(state[0])

    def more() -> None:
        state[0] = jax.block_until_ready(add(state[0], {name: tensor[:, :count] for name, tensor in host.items()}))
        os.sync()

    return clock(lambda: writer.write(state[0]), before=more)
