"""A durable checkpoint, against writing and fsyncing the same bytes raw, and beside other libraries.

Only Keepfast and the raw write are on disk when they return; whatever another library leaves in the system's cache is
written out before the next round begins, and not counted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keepfast
from benchmarks.measure import AtMost, Peer, Round, Row, Settings, clock, compare, installed, median
from benchmarks.states import torch_modules, torch_tensors, train_state

LIMIT = AtMost(1.15)
MORE = 2
"""How many fsyncs a checkpoint needs beside that of its data: of the index and of a folder."""

SIZES = (1, 16, 512)
ROUNDS = {1: 15, 16: 9, 512: 3}


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each framework, format and size."""
    for size in SIZES:
        everything = size < 512 or settings.large
        if installed("torch"):
            yield from torch_rows(size, settings.directory, everything=everything)
        if installed("jax"):
            yield from jax_rows(size, settings.directory, everything=everything)


def torch_rows(size: int, directory: Path, *, everything: bool) -> Iterator[Row]:
    """Yield the rows of PyTorch's formats, the other libraries beside the first."""
    modules = torch_modules(size * 1_000_000)
    agent = keepfast.Agent(cfg={"experiment": {"directory": str(directory)}})
    agent.checkpoint_modules.update(modules)
    others = torch_peers(modules, directory, everything=everything)
    for extension in (".pt", ".safetensors"):
        path = directory / f"ours{extension}"
        what = f"torch, {extension[1:]}, {size} MB"
        yield from against_raw(what, lambda path=path: agent.save(path), path, others, size)
        others = {}


def jax_rows(size: int, directory: Path, *, everything: bool) -> Iterator[Row]:
    """Yield the rows of a train state on JAX."""
    state, path = train_state(size * 1_000_000), directory / "ours-jax.safetensors"
    others = jax_peers(state, directory) if everything else {}
    what = f"JAX, safetensors, {size} MB"
    yield from against_raw(what, lambda: keepfast.save(state, path), path, others, size)


def against_raw(
    what: str, save: Callable[[], object], path: Path, others: dict[str, Callable[[], object]], size: int
) -> Iterator[Row]:
    """Yield the rows of one format, its raw bytes those that we have just written."""
    save()
    data = path.read_bytes()
    raw, (once, more) = path.with_suffix(".raw"), (None, LIMIT) if size == 1 else (LIMIT, None)
    peers = {
        "a raw write and fsync": Peer(durable(lambda: write_raw(raw, data)), once),
        f"the same and {MORE} fsyncs more": Peer(durable(lambda: write_with_fsyncs(raw, data)), more),
    }
    peers |= {name: Peer(durable(work)) for name, work in others.items()}
    named, rounds = f"durable checkpoint, {what}", ROUNDS[size]
    yield from compare(named, durable(save), peers, rounds=rounds, summary=median, nbytes=len(data))
    path.unlink()


def durable(work: Callable[[], object]) -> Round:
    """Return a round that begins with nothing left to write from those before."""
    return clock(work, before=os.sync)


def write_raw(path: Path, data: bytes) -> None:
    """Write bytes to a new file, wait until they are on disk, and give it the name of the one before, as ours does."""
    with path.with_suffix(".new").open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.with_suffix(".new").replace(path)


def write_with_fsyncs(path: Path, data: bytes) -> None:
    """Do the same, and wait for another small file, and for the folder, until they are on disk."""
    write_raw(path, data)
    write_raw(path.with_suffix(".index"), data[:4096])
    descriptor = os.open(path.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def torch_peers(modules: dict[str, Any], directory: Path, *, everything: bool) -> dict[str, Callable[[], object]]:
    """Return what others save the same modules with."""
    import safetensors.torch
    import torch

    def state() -> dict[str, Any]:
        return {name: module.state_dict() for name, module in modules.items()}

    def flat() -> dict[str, Any]:
        return {str(number): tensor for number, tensor in enumerate(torch_tensors(modules))}

    path = directory / "torch.pt"
    peers: dict[str, Callable[[], object]] = {"torch.save, not durable": lambda: torch.save(state(), path)}
    if not everything:
        return peers
    peers["safetensors, not durable"] = lambda: safetensors.torch.save_file(flat(), directory / "torch.safetensors")
    peers["torch DCP"] = lambda: dcp_save(state(), directory / "dcp")
    if installed("torchrl"):
        from torchrl.checkpoint import Checkpoint

        peers["torchrl's Checkpoint"] = lambda: Checkpoint(**modules).save(directory / "torchrl")
    if installed("skrl"):
        agent = skrl_agent(modules, directory)
        peers["skrl 1.4.3, not durable"] = lambda: agent.write_checkpoint(1, 1)
    return peers


def dcp_save(state: dict[str, Any], path: Path) -> None:
    """Save with torch's distributed checkpointing, in this one process."""
    import warnings

    from torch.distributed import checkpoint

    shutil.rmtree(path, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no process group
        checkpoint.save(state, checkpoint_id=path)


def skrl_agent(modules: dict[str, Any], directory: Path) -> Any:
    """Return an agent of skrl with the same modules."""
    from skrl.agents.torch import Agent

    experiment = {"directory": str(directory), "experiment_name": "skrl", "write_interval": 0, "checkpoint_interval": 1}
    agent = Agent(models={}, cfg={"experiment": experiment})
    agent.checkpoint_modules.update(modules)
    agent.init()
    return agent


def jax_peers(state: Any, directory: Path) -> dict[str, Callable[[], object]]:
    """Return what others save the same state with."""
    if not installed("orbax"):
        return {}
    from benchmarks.cases.checkpoint_orbax import orbax_save

    return {"Orbax StandardCheckpointer": orbax_save(state, directory)}
