"""How long a checkpoint blocks training, against a memory copy of the state into memory that is there; on JAX, nothing.

An asynchronous checkpoint returns when its copy is made; the write behind it ends before the next round begins. The
plain copy is what a user would write: a fresh NumPy copy of each tensor. The operating system hands out fresh memory
page by page, which takes longer than copying; the row "into memory already there" shows by how much.
"""

from __future__ import annotations

import itertools
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import keepfast
from benchmarks.measure import AtMost, Peer, Round, Row, Settings, clock, compare, installed, median
from benchmarks.states import owner_of, torch_modules, torch_tensors, train_state

LIMITS = {"torch": AtMost(1.15, constant=1e-3), "JAX": AtMost(0.0, constant=2e-3)}
SIZES = (1, 16)
LARGE_SIZES = (512,)
ROUNDS = 15
LARGE_ROUNDS = 5

ASYNCHRONOUS = AtMost(1.0)
"""Against what others save behind training with."""

Kind = tuple[dict[str, Any], Callable[[], list[NDArray[Any]]], dict[str, Peer]]
"""What to register, what gives every array of the state as NumPy's, and peers beside the plain copy."""


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each framework and size."""
    for size in SIZES + LARGE_SIZES:
        for framework, make in (("torch", torch_kind), ("JAX", jax_kind)):
            if installed(framework.lower()):
                yield from kind_rows(framework, size, make(size * 1_000_000, settings.directory), settings.directory)


def kind_rows(framework: str, size: int, kind: Kind, directory: Path) -> Iterator[Row]:
    """Yield the rows of one framework and size."""
    modules, arrays, others = kind
    agent = keepfast.Agent(cfg=configuration(directory / f"{framework}-{size}"))
    agent.checkpoint_modules.update(modules)
    peers = {
        "a plain copy": Peer(clock(lambda: [array.copy() for array in arrays()])),
        "a copy into memory already there": Peer(copy_again(arrays()), LIMITS[framework]),
        **others,
    }
    what, rounds = f"a checkpoint blocks, {framework}, {size} MB", LARGE_ROUNDS if size in LARGE_SIZES else ROUNDS
    yield from compare(what, checkpoint_round(agent), peers, rounds=rounds, summary=median)
    agent.close()
    shutil.rmtree(agent.experiment_dir)


def configuration(directory: Path) -> dict[str, Any]:
    """Return a configuration that keeps one checkpoint, so that the disk does not fill."""
    return {"experiment": {"directory": str(directory), "writers": ["jsonl"], "keep_last": 1}}


def checkpoint_round(agent: keepfast.Agent) -> Round:
    """Return a round that takes a checkpoint when the one before is on disk."""
    counter = itertools.count(1)
    return clock(lambda: agent.write_checkpoint(next(counter)), before=agent.wait)


def copy_again(arrays: Sequence[NDArray[Any]]) -> Round:
    """Return a round that copies arrays over copies made once."""
    copies = [array.copy() for array in arrays]
    return clock(lambda: [np.copyto(copy, array) for copy, array in zip(copies, arrays, strict=True)])


def torch_kind(nbytes: int, directory: Path) -> Kind:
    """Return a network and its optimizer on PyTorch."""
    modules = torch_modules(nbytes)

    def clone() -> None:
        _ = [tensor.clone() for tensor in torch_tensors(modules)]

    others = {
        "torch's clone of each tensor": Peer(clock(clone)),
        "DCP's async_save, staged": Peer(dcp_round(modules, directory / "dcp"), ASYNCHRONOUS),
    }
    return modules, lambda: [t.numpy() for t in torch_tensors(modules)], others


def dcp_round(modules: dict[str, Any], path: Path) -> Round:
    """Return a round that times how long torch's distributed checkpointing blocks, which keeps its staging memory."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

    ordinary = StagingOptions(
        use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False
    )  # without an accelerator there is no other
    stager, running = DefaultStager(ordinary), list[Any]()

    def finish() -> None:
        while running:
            running.pop().result()
        shutil.rmtree(path, ignore_errors=True)

    def save() -> None:
        state = {name: module.state_dict() for name, module in modules.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no process group
            running.append(checkpoint.async_save(state, checkpoint_id=path, async_stager=stager))

    return clock(save, before=finish)


def jax_kind(nbytes: int, directory: Path) -> Kind:
    """Return a train state on JAX, with Orbax's asynchronous checkpointer as a peer where there is one."""
    import jax

    state = train_state(nbytes)
    modules = {"state": keepfast.attribute(owner_of(state), "state")}
    others = {"Orbax, asynchronous": Peer(orbax_round(state, directory), ASYNCHRONOUS)} if installed("orbax") else {}
    return modules, lambda: [np.asarray(leaf) for leaf in jax.tree.leaves(state)], others


def orbax_round(state: Any, directory: Path) -> Round:
    """Return a round that times how long Orbax's asynchronous save blocks."""
    import orbax.checkpoint

    checkpointer = orbax.checkpoint.StandardCheckpointer()
    path = (directory / "orbax").resolve()

    def finish() -> None:
        checkpointer.wait_until_finished()

    return clock(lambda: checkpointer.save(path, state, force=True), before=finish)
