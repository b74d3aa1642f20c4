"""What a load that fails leaves of modules of JAX."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

pytest.importorskip("jax")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.training.train_state import TrainState

import keepfast
import keepfast_jax
from keepfast.testing.kept import RunningMeanStd
from tests.both_backends.undone import UndoneSuite
from tests.jax_backend.framework import Jax


class Scaler:
    """Looks after its own state, half of it in an object of its own."""

    def __init__(self, seed: int) -> None:
        self.mean, self.inner = jnp.full((3,), float(seed)), SimpleNamespace(count=seed, last=[seed] * seed)
        self.table = np.full(3, float(seed))

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "count": self.inner.count, "last": list(self.inner.last), "table": self.table}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.count = state["count"]
        self.inner.last[:] = state["last"]
        self.table[:] = state["table"]
        self.mean = state["mean"]


class Net(nnx.Module):
    """Has a dropout, a batch norm and layers within layers."""

    def __init__(self, seed: int) -> None:
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)])


class TestUndone(Jax, UndoneSuite):
    steps: ClassVar[int] = 300

    def agent(self, seed: int) -> dict[str, Any]:
        params = {"w": jnp.full((2,), float(seed)), "n": np.full(2, seed)}
        state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(0.1))
        owner = SimpleNamespace(epsilon=1.0 / seed, state=state)
        memory = keepfast_jax.RandomMemory(memory_size=4, num_envs=2)
        memory.create_tensor("states", 3)
        memory.add_samples(states=jnp.full((2, 3), float(seed)))
        return {
            "state": keepfast.attribute(owner, "state"),
            "params": {
                "w": jnp.full((2,), float(seed)),
                "n": np.full(2, seed),
                "deep": [jnp.ones(seed * 0 + 1) * seed],
            },
            "net": Net(seed),
            "model": keepfast_jax.Model(None, {"params": {"w": jnp.full((2,), float(seed))}}),
            "scaler": Scaler(seed),
            "key": keepfast.attribute(SimpleNamespace(key=jax.random.key(seed)), "key"),
            "pool": deque([jnp.full((2,), float(seed))] * seed, 5),
            "rms": RunningMeanStd(float(seed)),
            "rng": np.random.default_rng(seed),
            "epsilon": keepfast.attribute(owner, "epsilon"),
            "memory": memory,
        }
