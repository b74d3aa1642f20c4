"""A run that goes on from a restored state ends in the very same bits as one that was never interrupted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as nn  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from flax.training.train_state import TrainState  # noqa: E402

from keepfast.tree import flatten  # noqa: E402
from keepfast_jax import JaxBackend, Model  # noqa: E402

STEPS = 3
backend = JaxBackend()


def host(module: Any) -> Any:
    return backend.host_copy(backend.capture(module))


def fingerprint(tree: Any) -> dict[str, Any]:
    """Return every leaf of a host tree as bytes or text."""
    return {
        path: leaf.tobytes() if isinstance(leaf, np.ndarray) else repr(leaf) for path, leaf in flatten(tree).items()
    }


def batch(step: int) -> tuple[jax.Array, jax.Array]:
    draw = np.random.default_rng(step)
    return jnp.asarray(draw.normal(size=(16, 4)), jnp.float32), jnp.asarray(draw.normal(size=(16, 2)), jnp.float32)


class Network(nn.Module):
    """Computes in bfloat16, where a wrong weak type would show at once."""

    @nn.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        x = nn.relu(nn.Dense(8, dtype=jnp.bfloat16)(x))
        x = nn.Dropout(0.3, deterministic=not train)(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(2)(x)


class TrainStateRun:
    """Keeps everything in one TrainState, donated at every step; its loss scale changes its weak type on the way."""

    class State(TrainState):
        batch_stats: Any
        key: jax.Array
        scale: jax.Array

    def __init__(self, seed: int) -> None:
        network = Network()
        keys = jax.random.split(jax.random.key(seed), 3)
        variables = network.init({"params": keys[0], "dropout": keys[1]}, batch(0)[0])
        transformation = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0.1, 0.01, 5)))
        self.state = self.State.create(
            apply_fn=network.apply, tx=transformation, key=keys[2], scale=jnp.ones(()), **variables
        )

    @staticmethod
    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: Any, x: Any, y: Any) -> Any:
        key, dropout = jax.random.split(state.key)

        def loss(params: Any) -> Any:
            variables = {"params": params, "batch_stats": state.batch_stats}
            out, changed = state.apply_fn(variables, x, mutable=["batch_stats"], rngs={"dropout": dropout})
            error = (out - y).astype(jnp.bfloat16) * state.scale
            return (error.astype(jnp.float32) ** 2).mean(), changed

        grads, changed = jax.grad(loss, has_aux=True)(state.params)
        scale = jnp.where(jnp.isfinite(grads["Dense_0"]["bias"]).all(), 1.1, 0.9)  # of weak type
        return state.apply_gradients(grads=grads, key=key, scale=scale, **changed)

    def step(self, index: int) -> None:
        self.state = self.update(self.state, *batch(index))

    def save(self) -> Any:
        return host(self.state)

    def load(self, saved: Any) -> None:
        self.state = backend.restore(self.state, saved)


class LinenRun:
    """Keeps linen variables in a Model, and beside it an optax state with hyperparameters that change."""

    def __init__(self, seed: int) -> None:
        network = Network()
        self.model = Model(network, network.init(jax.random.key(seed), batch(0)[0], train=False))
        self.transformation = optax.inject_hyperparams(optax.adam)(learning_rate=0.05)
        self.optimizer = self.transformation.init(self.model.variables["params"])
        self.rng = jax.random.PRNGKey(seed)

    def step(self, index: int) -> None:
        x, y = batch(index)
        self.rng, dropout = jax.random.split(self.rng)

        def loss(params: Any) -> Any:
            variables = {**self.model.variables, "params": params}
            out, changed = self.model.module.apply(variables, x, mutable=["batch_stats"], rngs={"dropout": dropout})
            return ((out - y) ** 2).mean(), changed

        params = self.model.variables["params"]
        grads, changed = jax.grad(loss, has_aux=True)(params)
        self.optimizer.hyperparams["learning_rate"] *= 0.9
        updates, self.optimizer = self.transformation.update(grads, self.optimizer, params)
        self.model.variables = {**changed, "params": optax.apply_updates(params, updates)}

    def save(self) -> Any:
        return host({"model": self.model, "optimizer": self.optimizer, "rng": self.rng})

    def load(self, saved: Any) -> None:
        backend.restore(self.model, saved["model"])
        self.optimizer = backend.restore(self.optimizer, saved["optimizer"])
        self.rng = backend.restore(self.rng, saved["rng"])


class NnxNetwork(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)])
        self.norm, self.dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)
        self.log_std = nnx.Param(jnp.array(-0.5))  # of weak type until its first update

    def __call__(self, x: Any) -> Any:
        x = self.dropout(self.norm(nnx.relu(self.layers[0](x))))
        return self.layers[1](x) * jnp.exp(self.log_std[...].astype(jnp.bfloat16))


class NnxRun:
    """Keeps an nnx module, its optimizer and a metric."""

    def __init__(self, seed: int) -> None:
        self.network = NnxNetwork(nnx.Rngs(params=seed, dropout=seed + 1))
        self.optimizer = nnx.Optimizer(self.network, optax.adamw(0.05), wrt=nnx.Param)
        self.metric = nnx.metrics.Average("loss")

    @staticmethod
    @nnx.jit
    def update(network: Any, optimizer: Any, metric: Any, x: Any, y: Any) -> None:
        loss, grads = nnx.value_and_grad(lambda network: ((network(x) - y) ** 2).mean())(network)
        optimizer.update(network, grads)
        metric.update(loss=loss)

    def step(self, index: int) -> None:
        self.update(self.network, self.optimizer, self.metric, *batch(index))

    def save(self) -> Any:
        return host({"network": self.network, "optimizer": self.optimizer, "metric": self.metric})

    def load(self, saved: Any) -> None:
        for name, state in saved.items():
            assert backend.restore(getattr(self, name), state) is getattr(self, name)


@pytest.mark.parametrize("make", [TrainStateRun, LinenRun, NnxRun])
@pytest.mark.parametrize("interrupted_at", [0, STEPS])
def test_three_more_steps_are_bit_identical(make: Callable[[int], Any], interrupted_at: int) -> None:
    """Parameters, statistics, optimizer, schedules, random numbers and weak types all go on as they were."""
    whole, resumed = make(0), make(1)
    for step in range(interrupted_at):
        whole.step(step)
    saved = whole.save()
    for step in range(interrupted_at, interrupted_at + STEPS):  # donates and overwrites what was saved
        whole.step(step)
    resumed.load(saved)
    assert fingerprint(resumed.save()) == fingerprint(saved)
    for step in range(interrupted_at, interrupted_at + STEPS):
        resumed.step(step)
    assert fingerprint(resumed.save()) == fingerprint(whole.save())
