"""The JAX backend keeps the contract of backends, with every kind of module it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as nn  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from flax.core import freeze  # noqa: E402
from flax.training.train_state import TrainState  # noqa: E402

from keepfast.testing.backend import BackendContract, BackendSubject  # noqa: E402
from keepfast_jax import JaxBackend, Model  # noqa: E402

NETWORK = nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(2)])
OBSERVATIONS = jnp.linspace(-1, 1, 6).reshape(2, 3)


def variables(seed: int) -> Any:
    return NETWORK.init(jax.random.key(seed), OBSERVATIONS)


def decayed(tree: Any) -> Any:
    """Return every array of a pytree changed by its own values."""
    return jax.tree.map(lambda leaf: leaf * 0.5 + 1, tree)


def train_dict(module: dict[str, Any]) -> dict[str, Any]:
    module.update(decayed(module))
    return module


def train_model(model: Model) -> Model:
    model.variables = decayed(model.variables)
    return model


def make_train_state(seed: int) -> TrainState:
    return TrainState.create(apply_fn=NETWORK.apply, params=variables(seed)["params"], tx=optax.adamw(0.1))


@jax.jit
def train_state(state: TrainState) -> TrainState:
    return state.apply_gradients(grads=decayed(state.params))


def make_optax_state(seed: int) -> Any:
    return optax.inject_hyperparams(optax.adam)(0.1 + seed).init(variables(seed))


def train_optax_state(state: Any) -> Any:
    return state._replace(
        hyperparams=decayed(state.hyperparams), inner_state=decayed(state.inner_state), count=state.count + 1
    )


class Policy(nnx.Module):
    def __init__(self, seed: int) -> None:
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])
        self.norm, self.dropout = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.layers[1](self.dropout(self.norm(self.layers[0](x))))


def make_nnx(seed: int) -> dict[str, Any]:
    policy = Policy(seed)
    return {"policy": policy, "optimizer": nnx.Optimizer(policy, optax.adam(0.1), wrt=nnx.Param)}


@nnx.jit
def _train_nnx(policy: Policy, optimizer: Any) -> None:
    optimizer.update(policy, nnx.grad(lambda policy: (policy(OBSERVATIONS) ** 2).sum())(policy))


def train_nnx(module: dict[str, Any]) -> dict[str, Any]:
    _train_nnx(module["policy"], module["optimizer"])
    return module


class Mixed(NamedTuple):
    key: jax.Array
    half: jax.Array
    mean: Any
    step: Any
    absent: None = None


def make_mixed(seed: int) -> Mixed:
    draw = np.random.default_rng(seed)
    return Mixed(jax.random.key(seed), jnp.asarray(draw.normal(size=3), jnp.bfloat16), draw.normal(size=2), seed)


def train_mixed(state: Mixed) -> Mixed:
    return Mixed(jax.random.split(state.key, 1)[0], state.half * 0.5, state.mean * 0.5, state.step + 1)


def train_numpy(module: dict[str, Any]) -> dict[str, Any]:
    module["mean"] += 1
    return module


class Scaler:
    """A preprocessor that restores itself."""

    def __init__(self, seed: int) -> None:
        self.mean, self.count = jnp.full((3,), float(seed)), seed

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.count = state["mean"], state["count"]

    def train(self) -> Scaler:
        self.mean, self.count = jnp.exp(-self.mean), self.count + 1
        return self


SUBJECTS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "linen variables": (variables, train_dict),
    "frozen linen variables": (lambda seed: freeze(variables(seed)), decayed),
    "Model": (lambda seed: Model(NETWORK, variables(seed)), train_model),
    "TrainState": (make_train_state, train_state),
    "optax state": (make_optax_state, train_optax_state),
    "nnx module and optimizer": (make_nnx, train_nnx),
    "named tuple of all kinds": (make_mixed, train_mixed),
    "NumPy arrays": (lambda seed: {"mean": np.full(3, float(seed))}, train_numpy),
    "object with state_dict": (Scaler, Scaler.train),
}


class TestJaxBackend(BackendContract):
    """Runs the contract with each kind."""

    @pytest.fixture(params=SUBJECTS)
    def subject(self, request: pytest.FixtureRequest) -> BackendSubject:
        return BackendSubject(JaxBackend(), *SUBJECTS[request.param], jnp.asarray)
