"""Every public call times every wrong argument, with modules, memories and arrays of JAX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("jax")

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np

import keepfast_jax
from tests.both_backends.every_call import KINDS, EveryCallSuite, Kind, Place


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


class Policy(keepfast_jax.Model):
    """A model as users write them."""

    @flax.linen.compact
    def __call__(self, x: Any) -> Any:
        return flax.linen.Dense(self.num_actions)(x)


MODEL = ("save", "load", "migrate")


class TestEveryCall(EveryCallSuite):
    kinds: ClassVar[Mapping[str, Kind]] = {**KINDS, **ARRAYS}
    extension = ".msgpack"

    def net(self) -> Any:
        return {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}

    def memory(self, *arguments: Any, **options: Any) -> keepfast_jax.RandomMemory:
        return keepfast_jax.RandomMemory(*arguments, **options)

    def test_nothing_foreign_is_raised_by_the_constructor_of_a_model(self, at: Place) -> None:
        """Spaces that are none are told, and devices that do not exist."""

        def make(observation_space: Any, action_space: Any, device: Any) -> Any:  # the rest is linen's own
            return Policy(observation_space, action_space, device).num_actions

        self.check("Model", make, at)

    @pytest.mark.parametrize("call", MODEL)
    def test_nothing_foreign_is_raised_by_a_model(self, call: str, at: Place) -> None:
        """A model saves, loads and migrates itself as the functions of these names do."""
        model = Policy(3, 2)
        model.init_variables(jax.random.key(0), jnp.zeros((1, 3)))
        at.file = model.save(at.folder / "kept" / "model.msgpack")
        self.check(f"Model.{call}", getattr(model, call), at)

    def test_nothing_foreign_is_raised_by_a_holder(self, at: Place) -> None:
        """What holds a module and its variables saves and loads as well."""
        module = flax.linen.Dense(2)
        held = keepfast_jax.Model(module, module.init(jax.random.key(0), jnp.zeros((1, 3))))
        at.file = held.save(at.folder / "kept" / "held.msgpack")
        self.check("Model.load", held.load, at)

    def test_nothing_foreign_is_raised_by_a_loop(self, at: Place) -> None:
        """A loop refuses what is no state, inputs, length or experiment; its function's errors are its own."""

        def scan(init: Any = 0.0, xs: Any = None, length: Any = 0, experiment: Any = None) -> Any:
            run = at.experiment if experiment is None else experiment
            length = 0 if type(length) is int and length > 0 else length  # nobody waits for so many steps
            return keepfast_jax.scan(lambda carry, _: (carry, {"a": 1.0}), init, xs, length, experiment=run)

        self.check("scan", scan, at)
