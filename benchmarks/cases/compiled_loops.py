"""A loop under `keepfast_jax.scan`, against the same `jax.lax.scan` without metrics and with a callback at each step.

A step is some multiplications of a matrix, as many as take about 15 us; five numbers of it are tracked, and written
every 1,000 steps. Other rows have 16 seeds side by side. What is timed is a whole run, its experiment already open.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keepfast
from benchmarks.cases.checkpoint_memory import memory
from benchmarks.measure import AtMost, Peer, Round, Row, Settings, clock, compare, installed

STEPS, INTERVAL, SEEDS = 20_000, 1_000, 16
SECONDS = 15e-6
"""What a step takes, about."""

WIDTH = 64
FEWER = 2_000
"""Steps of the loops that call the host at each."""

ROUNDS = 9
FEW, MANY = 10_000, 10_000_000
"""Steps of loops whose peaks of memory are compared."""

TAGS = tuple(f"Loss / {name}" for name in ("policy", "value", "entropy", "clipped", "total"))

LIMIT = AtMost(1.05)


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows where JAX is installed; that of the memory only on Linux, which can tell a process's peak."""
    if not installed("jax"):
        return
    step = calibrated()
    for what, seeds, rounds in (("", None, ROUNDS), (f", {SEEDS} seeds", SEEDS, ROUNDS // 3)):
        plain, inside = (timed(compiled(loop, seeds)) for loop in (bare(step), kept(step, settings.directory)))
        peers = {"the same without metrics": Peer(plain, LIMIT)}
        yield from compare(f"{STEPS:,} steps with 5 tags, inside jit{what}", inside, peers, rounds=rounds)
        few = timed(compiled(kept(step, settings.directory, FEWER), seeds))
        peers = {"a callback at each step": Peer(timed(compiled(called_back(step), seeds)))}
        yield from compare(f"{FEWER:,} steps with 5 tags, inside jit{what}", few, peers, rounds=rounds // 3)
    run, first = kept(step, settings.directory), start()
    peers = {"the same without metrics": Peer(timed(compiled(bare(step), None)), LIMIT)}
    outside = clock(lambda: ready(run(first)))
    yield from compare(f"{STEPS:,} steps with 5 tags, outside jit", outside, peers, rounds=ROUNDS)
    if Path("/proc/self/clear_refs").exists():
        few, many = (peak(steps, settings.directory) for steps in (FEW, MANY))
        yield Row(f"peak of memory, {MANY:,} steps", f"{FEW:,} steps", many, few, AtMost(1.01), unit="B")


def start(seed: Any = 0) -> Any:
    """Return a first carry."""
    import jax

    return jax.random.normal(jax.random.key(seed), (WIDTH,))


def step_of(repeats: int) -> Callable[[Any], tuple[Any, dict[str, Any]]]:
    """Return a step that multiplies so many times, and what it tracks."""
    import jax
    import jax.numpy as jnp

    matrix = jax.random.normal(jax.random.key(1), (WIDTH, WIDTH)) / WIDTH**0.5

    def step(carry: Any) -> tuple[Any, dict[str, Any]]:
        carry = jax.lax.fori_loop(0, repeats, lambda _, carry: jnp.tanh(matrix @ carry) + 0.01, carry)
        return carry, {tag: carry[number] for number, tag in enumerate(TAGS)}

    return step


def calibrated() -> Callable[[Any], tuple[Any, dict[str, Any]]]:
    """Return a step that takes about as long as it should."""
    trial = 16
    seconds = min(timed(compiled(bare(step_of(trial)), None))() for _ in range(3)) / STEPS
    return step_of(max(round(trial * SECONDS / seconds), 1))


def bare(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a loop without metrics."""
    import jax

    return lambda first: jax.lax.scan(lambda carry, _: (step(carry)[0], None), first, length=STEPS)[0]


def called_back(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a loop that hands what it tracks to the host at each step, which does nothing with it."""
    import jax

    def following(carry: Any, _: None) -> tuple[Any, None]:
        carry, tracked = step(carry)
        jax.debug.callback(lambda tracked: None, tracked)
        return carry, None

    return lambda first: jax.lax.scan(following, first, length=FEWER)[0]


_numbers = itertools.count()


def kept(step: Callable[[Any], Any], directory: Path, steps: int = STEPS) -> Callable[[Any], Any]:
    """Return a loop whose metrics are kept."""
    import keepfast_jax

    settings = {"directory": str(directory), "experiment_name": f"scan-{next(_numbers)}"}
    experiment = keepfast.Experiment({**settings, "write_interval": INTERVAL, "checkpoint_interval": 0})

    def following(carry: Any, _: None) -> tuple[Any, dict[str, Any]]:
        found: tuple[Any, dict[str, Any]] = step(carry)
        return found

    return lambda first: keepfast_jax.scan(following, first, length=steps, experiment=experiment)[0]


def compiled(loop: Callable[[Any], Any], seeds: int | None) -> Callable[[], object]:
    """Return what runs a compiled loop to its end, of many seeds where there are any."""
    import jax
    import jax.numpy as jnp

    program = jax.jit(loop if seeds is None else jax.vmap(loop))
    first = start() if seeds is None else jax.vmap(start)(jnp.arange(seeds))
    return lambda: ready(program(first))


def ready(carry: Any) -> None:
    """Wait until a loop has ended, and what it calls the host for."""
    import jax

    jax.block_until_ready(carry)
    jax.effects_barrier()


def timed(run: Callable[[], object]) -> Round:
    """Return a round of a loop that was compiled before."""
    run()
    return clock(run)


def peak(steps: int, directory: Path) -> float:
    """Return the process's peak of memory while a loop of so many cheap steps runs, in bytes."""
    run = compiled(kept(step_of(0), directory, steps), None)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is used now
    run()
    return memory("VmHWM")
