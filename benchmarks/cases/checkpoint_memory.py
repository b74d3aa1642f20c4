"""The peak of extra memory that an asynchronous checkpoint takes, against the size of the state."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keepfast
from benchmarks.cases.checkpoint_blocking import configuration, jax_kind, torch_kind
from benchmarks.measure import AtMost, Row, Settings, installed

STATE = 256_000_000
ROUNDS = 3


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each framework; only Linux can tell a process's peak."""
    if not Path("/proc/self/clear_refs").exists():
        return
    for framework, make in (("torch", torch_kind), ("JAX", jax_kind)):
        if installed(framework.lower()):
            modules, arrays, _ = make(STATE, settings.directory)
            size = sum(array.nbytes for array in arrays())
            agent = keepfast.Agent(cfg=configuration(settings.directory / framework))
            agent.checkpoint_modules.update(modules)
            peak = max(extra_memory(agent, timestep) for timestep in range(1, ROUNDS + 1))
            agent.close()
            yield Row(f"peak memory of a checkpoint, {framework}", "the state", peak, size, AtMost(1.1), unit="B")


def extra_memory(agent: Any, timestep: int) -> float:
    """Return by how much a checkpoint raises the process's memory at most, until it is on disk."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before hides what is taken now
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is used now
    before = memory("VmRSS")
    agent.write_checkpoint(timestep)
    agent.wait()
    return memory("VmHWM") - before


def memory(field: str) -> float:
    """Return a field of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024.0
