"""Every public call times every wrong argument, with modules, memories and arrays of JAX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp
import numpy as np

import keepfast_jax
from tests.both_backends.every_call import KINDS, EveryCallSuite, Kind


def deleted(_: Path) -> Any:
    made = jnp.zeros(2)
    made.delete()
    return made


def leaked(_: Path) -> Any:
    kept: list[Any] = []
    jax.jit(lambda given: kept.append(given) or given)(jnp.zeros(2))
    return kept[0]


def given_away(_: Path) -> Any:
    made = jnp.zeros(2)
    jax.jit(lambda given: given + 1, donate_argnums=0)(made)
    return made


ARRAYS: Mapping[str, Kind] = {
    "a deleted array": deleted,
    "a donated array": given_away,
    "a tracer": leaked,
    "a key": lambda _: jax.random.key(0),
    "a key of numbers": lambda _: jax.random.PRNGKey(0),
    "a shape without values": lambda _: jax.ShapeDtypeStruct((2,), jnp.float32),
    "a complex array": lambda _: jnp.zeros(2, jnp.complex64),
    "an array of no dimension": lambda _: jnp.asarray(1.0),
    "an array of nothing": lambda _: jnp.zeros(0),
    "an array of bfloat16": lambda _: jnp.zeros(2, jnp.bfloat16),
    "an array of float8": lambda _: jnp.zeros(2, jnp.float8_e4m3fn),
    "an array of int4": lambda _: jnp.zeros(2, jnp.int4),
    "a zero of no number": lambda _: np.zeros(2, jax.dtypes.float0),
    "a dict of a deleted array": lambda folder: {"a": deleted(folder)},
    "a device": lambda _: jax.devices()[0],
    "a place of several": lambda _: jax.sharding.PartitionSpec("x"),
    "a dtype": lambda _: jnp.float32,
    "a traced function": lambda _: jax.jit(lambda given: given),
}


class TestEveryCall(EveryCallSuite):
    kinds: ClassVar[Mapping[str, Kind]] = {**KINDS, **ARRAYS}
    extension = ".msgpack"

    def net(self) -> Any:
        return {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}

    def memory(self, *arguments: Any, **options: Any) -> keepfast_jax.RandomMemory:
        return keepfast_jax.RandomMemory(*arguments, **options)
