"""A verified load of a checkpoint, against reading its file raw into fresh memory, and beside torch.load.

Whatever earlier rounds left in the allocator is given back to the system before each one, as a process that loads for
the first time has none of it; torch.load verifies nothing. Files are in the system's cache.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import keepfast
from benchmarks.measure import AtMost, Limit, Peer, Row, Settings, clock, compare, installed, median
from benchmarks.states import owner_of, torch_modules, train_state

RAW = "a raw read into fresh memory"
ROUNDS = {1: 31, 16: 21, 512: 7}


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each framework, format and size."""
    for size in ROUNDS:
        if installed("torch"):
            yield from torch_rows(size, settings.directory)
        if installed("jax"):
            yield from jax_rows(size, settings.directory)


def torch_rows(size: int, directory: Path) -> Iterator[Row]:
    """Yield the rows of PyTorch's formats, into a network and its optimizer that have a state already."""
    import torch

    modules = torch_modules(size * 1_000_000)
    agent = keepfast.Agent(cfg={"experiment": {"directory": str(directory)}})
    agent.checkpoint_modules.update(modules)
    torch.save({name: module.state_dict() for name, module in modules.items()}, directory / "torch.pt")

    def load() -> None:
        state = torch.load(directory / "torch.pt", weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(state[name])

    for extension in (".pt", ".safetensors"):
        path = agent.save(directory / f"ours{extension}")
        others = {"torch.load and load_state_dict, unverified": (load, AtMost(1.0 if size == 1 else 0.8))}
        yield from against_raw(f"torch, {extension[1:]}", size, lambda path=path: agent.load(path), path, others)
        path.unlink()


def jax_rows(size: int, directory: Path) -> Iterator[Row]:
    """Yield the rows of a train state on JAX."""
    import jax

    owner = owner_of(train_state(size * 1_000_000))
    module = keepfast.attribute(owner, "state")
    path = keepfast.save(module, directory / "ours-jax.safetensors")

    def load() -> None:
        keepfast.load(module, path)
        jax.block_until_ready(owner.state)

    yield from against_raw("JAX, safetensors", size, load, path, {})
    path.unlink()


def against_raw(
    what: str,
    size: int,
    load: Callable[[], object],
    path: Path,
    others: dict[str, tuple[Callable[[], object], Limit]],
) -> Iterator[Row]:
    """Yield the rows of one format: of the raw reads, and of others."""
    nbytes = path.stat().st_size
    warm = bytearray(nbytes)
    peers = {
        RAW: Peer(clock(lambda: read_fresh(path), before=trim), None if size == 1 else AtMost(1.3)),
        "a raw read into memory already there": Peer(clock(lambda: read_into(path, warm), before=trim)),
        **{name: Peer(clock(work, before=trim), limit) for name, (work, limit) in others.items()},
    }
    named = f"verified load, {what}, {size} MB"
    yield from compare(named, clock(load, before=trim), peers, rounds=ROUNDS[size], summary=median, nbytes=nbytes)


def read_fresh(path: Path) -> None:
    """Read a file into memory that nobody had before."""
    with mmap.mmap(-1, path.stat().st_size) as memory:
        read_into(path, memory)


def read_into(path: Path, memory: bytearray | mmap.mmap) -> None:
    """Read a file into memory, without a buffer between."""
    with path.open("rb", buffering=0) as file:
        file.readinto(memory)


def trim() -> None:
    """Give the system back what the allocator keeps, where it is glibc's."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
