"""Saves 20 MB and a memory again and again until it is killed; started by `test_kill.py`.

The process imports a framework once and then forks a child for each line it reads, so that fifty kills do not pay for
fifty imports. A child tells of each checkpoint once it is durable.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

import keepfast
import keepfast.experiment  # what a child would otherwise import after the fork

ELEMENTS = 5 * 2**20
"""Of float32: 20 MB."""

ADDED, MEMORY_SIZE = 3, 40
"""How many rows a memory gets before each checkpoint, and how many it holds."""

WITH_MEMORY = {("torch", "same"), ("torch", "successive"), ("jax", "successive")}
"""Where there is one; each process of JAX compiles it anew, so that once is enough there."""


def torch_module() -> Any:
    import torch

    layer = torch.nn.Linear(ELEMENTS // 16, 16, bias=False)
    layer.requires_grad_(False)
    return layer


def fill_torch(layer: Any, value: int) -> None:
    layer.weight.fill_(float(value))


class JaxOwner:
    def __init__(self) -> None:
        import jax

        self.params = {"weight": jax.numpy.zeros((16, ELEMENTS // 16), "float32")}


def fill_jax(owner: JaxOwner, value: int) -> None:
    import jax

    owner.params = {"weight": jax.numpy.full((16, ELEMENTS // 16), float(value), "float32")}


def memory_of(backend: str) -> Any:
    made = __import__(f"keepfast_{backend}").RandomMemory(MEMORY_SIZE, 1)
    made.create_tensor("number", 64)
    return made


def save_forever(backend: str, mode: str, naming: str, directory: Path) -> None:
    module: Any = torch_module() if backend == "torch" else JaxOwner()
    fill = fill_torch if backend == "torch" else fill_jax
    cfg = {
        "directory": str(directory),
        "experiment_name": "killed",
        "writers": [],
        "async_checkpoints": mode == "async",
        "keep_last": 3,
    }
    experiment = keepfast.Experiment(cfg, timesteps=1_000_000)
    experiment.register(policy=module if backend == "torch" else keepfast.attribute(module, "params"))
    memory = memory_of(backend) if (backend, naming) in WITH_MEMORY else None
    if memory is not None:
        experiment.register(memory=memory)
    start = experiment.resume()
    number = int(value_of(module, backend))
    while True:
        number += 1
        fill(module, number)
        for _ in range(ADDED if memory is not None else 0):
            memory.add_samples(number=np.full((1, 64), float(number), np.float32))
        experiment.write_checkpoint(1 if naming == "same" else start + number)
        if mode == "async":
            fill(module, -1)  # must never reach the file
            experiment.wait()
        os.write(1, f"durable {number}\n".encode())


def value_of(module: Any, backend: str) -> float:
    return float(module.weight[0, 0]) if backend == "torch" else float(module.params["weight"][0, 0])


def main() -> None:
    backend, mode, naming, directory = sys.argv[1:]
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # a kill would leave half an entry
    if backend == "torch":
        import torch

        torch.set_num_threads(1)
    else:
        import flax  # noqa: F401  (imported for the children)
        import jax  # noqa: F401  (the same)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            save_forever(backend, mode, naming, Path(directory))
        os.write(1, f"child {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"gone\n")


if __name__ == "__main__":
    main()
