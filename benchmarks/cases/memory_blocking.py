"""How long an automatic export blocks the add_samples that completes a cycle, against a plain copy of the buffer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.measure import AtMost, Peer, Row, Settings, clock, compare, installed, median
from benchmarks.memories import NUM_ENVS, create_tensors, host_samples, rows_for

LIMIT = AtMost(1.5, constant=2e-3)
SIZES = (1, 64)
ROUNDS = 9


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each framework and size."""
    for size in SIZES:
        memory_size = rows_for(size * 1_000_000)
        samples = host_samples(memory_size)
        for framework, make in (("torch", torch_memory), ("JAX", jax_memory)):
            if not installed(framework.lower()):
                continue
            directory = settings.directory / f"{framework}-{size}"
            memory = make(memory_size, str(directory), samples)
            last = {name: tensor[-1] for name, tensor in samples.items()}

            def export(memory: Any = memory, last: dict[str, Any] = last, memory_size: int = memory_size) -> float:
                memory.wait()
                memory.memory_index = memory_size - 1
                start = time.perf_counter()
                memory.add_samples(**last)
                return time.perf_counter() - start

            copy = clock(lambda samples=samples: [np.array(tensor) for tensor in samples.values()])
            peers = {"a plain copy of the buffer": Peer(copy, LIMIT)}
            what = f"an automatic export blocks, {framework}, {size} MB"
            yield from compare(what, export, peers, rounds=ROUNDS, summary=median)
            memory.close()


def torch_memory(memory_size: int, directory: str, samples: dict[str, Any]) -> Any:
    """Return a full memory on PyTorch that exports itself."""
    import torch

    import keepfast_torch

    memory = keepfast_torch.RandomMemory(
        memory_size, NUM_ENVS, "cpu", export=True, export_format="pt", export_directory=directory, export_keep=1
    )
    create_tensors(memory, torch)
    memory.add_samples(**{name: torch.from_numpy(tensor) for name, tensor in samples.items()})
    return memory


def jax_memory(memory_size: int, directory: str, samples: dict[str, Any]) -> Any:
    """Return a full memory on JAX that exports itself."""
    import jax.numpy as jnp

    import keepfast_jax

    memory = keepfast_jax.RandomMemory(
        memory_size, NUM_ENVS, export=True, export_format="np", export_directory=directory, export_keep=1
    )
    create_tensors(memory, jnp)
    memory.add_samples(**samples)
    return memory
