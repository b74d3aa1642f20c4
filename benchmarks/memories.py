"""Memories of a given size, ours and the peers', with the same samples in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_ENVS = 16

SIZES = {"states": 16, "actions": 4, "rewards": 1, "terminated": 1}
"""The tensors of a memory and how many numbers one sample has in each."""

EPISODE_END = 3.0902
"""What a normally distributed number exceeds once in a thousand times: episodes are of 1000 timesteps on average."""

BYTES_PER_SAMPLE = 4 * (16 + 4 + 1) + 1


def rows_for(nbytes: int) -> int:
    """Return the memory size with which a memory holds about so many bytes."""
    return max(nbytes // (BYTES_PER_SAMPLE * NUM_ENVS), 2)


def host_samples(memory_size: int) -> dict[str, NDArray[Any]]:
    """Return samples of every row and environment, of shape (memory_size, num_envs, size)."""
    random = np.random.default_rng(0)
    samples: dict[str, NDArray[Any]] = {
        name: random.standard_normal((memory_size, NUM_ENVS, size), dtype=np.float32) for name, size in SIZES.items()
    }
    samples["terminated"] = samples["terminated"] > EPISODE_END
    return samples


def create_tensors(memory: Any, framework: Any) -> None:
    """Create the tensors in a memory, ours or skrl's; `framework` is torch or jax.numpy."""
    for name, size in SIZES.items():
        boolean = framework.bool if hasattr(framework, "Tensor") else bool
        memory.create_tensor(name=name, size=size, dtype=boolean if name == "terminated" else framework.float32)


def fill(memory: Any, samples: dict[str, Any]) -> None:
    """Add every row to a memory, ours or skrl's."""
    for row in range(len(samples["states"])):
        memory.add_samples(**{name: tensor[row] for name, tensor in samples.items()})
