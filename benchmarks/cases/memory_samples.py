"""add_samples and sample, against skrl's memory on PyTorch and flashbax's on JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.measure import AtLeast, Peer, Row, Settings, clock, compare, installed
from benchmarks.memories import NUM_ENVS, SIZES, create_tensors, fill, host_samples

MEMORY_SIZE = 1024
BATCH = 256
STEPS = 300
"""How many calls a round makes."""

ROUNDS = 15
LIMIT = AtLeast(1)

Calls = tuple[Callable[[int], object], Callable[[], object]]
"""Adds the samples of one step, given its number; draws one batch."""


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of each framework; what a call takes."""
    for framework, peer, packages, make in (
        ("torch", "skrl 1.4.3's RandomMemory", ("torch", "skrl"), torch_calls),
        ("JAX", "flashbax's item buffer", ("jax", "flashbax"), jax_calls),
    ):
        if not installed(*packages):
            continue
        (our_add, our_sample), (their_add, their_sample) = make()
        for what, ours, theirs in (
            ("add_samples", adding(our_add), adding(their_add)),
            (f"sample {BATCH}", sampling(our_sample), sampling(their_sample)),
        ):
            for row in compare(f"{what}, {framework}", ours, {peer: Peer(theirs, LIMIT)}, rounds=ROUNDS):
                yield Row(row.what, row.against, row.ours / STEPS, row.theirs / STEPS, row.limit)


def adding(add: Callable[[int], object]) -> Callable[[], float]:
    """Return a round that adds many steps."""
    return clock(lambda: [add(step) for step in range(STEPS)])


def sampling(sample: Callable[[], object]) -> Callable[[], float]:
    """Return a round that draws many batches."""
    return clock(lambda: [sample() for _ in range(STEPS)])


def torch_calls() -> tuple[Calls, Calls]:
    """Return the calls of our memory and of skrl's, both full."""
    import torch
    from skrl.memories.torch import RandomMemory

    import keepfast_torch

    samples = {name: torch.from_numpy(tensor) for name, tensor in host_samples(MEMORY_SIZE).items()}
    steps = [{name: tensor[row] for name, tensor in samples.items()} for row in range(STEPS)]

    def calls(memory: Any) -> Calls:
        create_tensors(memory, torch)
        fill(memory, samples)
        return lambda step: memory.add_samples(**steps[step]), lambda: memory.sample(list(SIZES), BATCH)

    return calls(keepfast_torch.RandomMemory(MEMORY_SIZE, NUM_ENVS, "cpu")), calls(
        RandomMemory(MEMORY_SIZE, NUM_ENVS, "cpu")
    )


def jax_calls() -> tuple[Calls, Calls]:
    """Return the calls of our memory and of flashbax's, both full; flashbax's compiled, its state donated."""
    import flashbax
    import jax
    import jax.numpy as jnp

    import keepfast_jax

    samples = {name: jnp.asarray(tensor) for name, tensor in host_samples(MEMORY_SIZE).items()}
    steps = [{name: tensor[row] for name, tensor in samples.items()} for row in range(STEPS)]
    memory = keepfast_jax.RandomMemory(MEMORY_SIZE, NUM_ENVS)
    create_tensors(memory, jnp)
    fill(memory, samples)
    buffer = flashbax.make_item_buffer(
        max_length=MEMORY_SIZE * NUM_ENVS, min_length=1, sample_batch_size=BATCH, add_batches=True
    )
    state = buffer.init({name: tensor[0] for name, tensor in steps[0].items()})
    add, sample = jax.jit(buffer.add, donate_argnums=0), jax.jit(buffer.sample)
    key = jax.random.key(0)

    def flashbax_add(step: int) -> None:
        nonlocal state
        state = add(state, steps[step])

    def flashbax_sample() -> object:
        nonlocal key
        key, drawn = jax.random.split(key)
        return jax.block_until_ready(sample(state, drawn))

    for step in range(STEPS):
        flashbax_add(step)
    ours: Calls = (
        lambda step: memory.add_samples(**steps[step]),
        lambda: jax.block_until_ready(memory.sample(list(SIZES), BATCH)),
    )
    return ours, (flashbax_add, flashbax_sample)
