"""A JAX run that was interrupted and resumed ends with the very same bits as one that never was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as nn  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from flax.training.train_state import TrainState  # noqa: E402

import keepfast  # noqa: E402
from tests.both_backends.interrupted import TIMESTEPS  # noqa: E402
from tests.both_backends.resume import Learner, ResumeSuite  # noqa: E402
from tests.jax_backend.framework import Jax  # noqa: E402


def leaves(tree: Any) -> dict[Any, Any]:
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        return nn.Dense(1)(nn.tanh(nn.Dense(16)(inputs)))


class TrainStateLearner(Learner):
    """Replaces a TrainState and a key at each step."""

    def __init__(self) -> None:
        params = Net().init(jax.random.key(0), np.zeros((1, 4), np.float32))["params"]
        schedule = optax.cosine_decay_schedule(1e-2, TIMESTEPS)
        self.state = TrainState.create(apply_fn=Net().apply, params=params, tx=optax.adamw(schedule))
        self.key = jax.random.key(1)
        self.modules = {"state": keepfast.attribute(self, "state"), "key": keepfast.attribute(self, "key")}

    def step(self) -> Any:
        self.key, key = jax.random.split(self.key)
        self.state, loss = _train_state_step(self.state, jax.random.normal(key, (8, 4)))
        return loss

    def result(self) -> dict[Any, Any]:
        return leaves(self.state)


@jax.jit
def _train_state_step(state: Any, inputs: Any) -> tuple[Any, Any]:
    def loss_of(params: Any) -> Any:
        return (state.apply_fn({"params": params}, inputs) ** 2).mean()

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    return state.apply_gradients(grads=gradients), loss


class LinenLearner(Learner):
    """Replaces linen variables and an optax state at each step; buffers are donated."""

    def __init__(self) -> None:
        self.variables = Net().init(jax.random.key(0), np.zeros((1, 4), np.float32))
        self.tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
        self.opt_state = self.tx.init(self.variables)
        self.key = jax.random.PRNGKey(1)
        self._step = jax.jit(self._update, donate_argnums=(0, 1))
        names = ("variables", "opt_state", "key")
        self.modules = {name: keepfast.attribute(self, name) for name in names}

    def _update(self, variables: Any, opt_state: Any, inputs: Any) -> Any:
        loss, gradients = jax.value_and_grad(lambda v: (Net().apply(v, inputs) ** 2).mean())(variables)
        updates, opt_state = self.tx.update(gradients, opt_state, variables)
        return optax.apply_updates(variables, updates), opt_state, loss

    def step(self) -> Any:
        self.key, key = jax.random.split(self.key)
        inputs = jax.random.normal(key, (8, 4))
        self.variables, self.opt_state, loss = self._step(self.variables, self.opt_state, inputs)
        return loss

    def result(self) -> dict[Any, Any]:
        return leaves((self.variables, self.opt_state))


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(4, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.last = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, inputs: Any) -> Any:
        return self.last(self.dropout(nnx.relu(self.norm(self.first(inputs)))))


class NnxLearner(Learner):
    """Changes an nnx module, with dropout and batch statistics, and an nnx optimizer in place."""

    def __init__(self) -> None:
        self.net = NnxNet(nnx.Rngs(0))
        self.optimizer = nnx.Optimizer(self.net, optax.adam(1e-2), wrt=nnx.Param)
        self.key = jax.random.key(1)
        self.modules = {"net": self.net, "optimizer": self.optimizer, "key": keepfast.attribute(self, "key")}

    def step(self) -> Any:
        self.key, key = jax.random.split(self.key)
        return _nnx_step(self.net, self.optimizer, jax.random.normal(key, (8, 4)))

    def result(self) -> dict[Any, Any]:
        states = nnx.state(self.net), nnx.state(self.optimizer)
        return leaves(jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, states))


def _is_key(leaf: Any) -> bool:
    return bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))


@nnx.jit
def _nnx_step(net: Any, optimizer: Any, inputs: Any) -> Any:
    loss, gradients = nnx.value_and_grad(lambda model: (model(inputs) ** 2).mean())(net)
    optimizer.update(net, gradients)
    return loss


class TestResume(Jax, ResumeSuite):
    @pytest.fixture(params=[TrainStateLearner, LinenLearner, NnxLearner])
    def kind(self, request: pytest.FixtureRequest) -> type[Learner]:
        learner: type[Learner] = request.param
        return learner

    @pytest.fixture
    def stop_at(self) -> int:
        return 23

    @pytest.fixture(params=[{}, {"store_separately": True}, {"checkpoint_format": "pt"}], ids=str)
    def settings(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return dict(request.param)

    def transition(self, loss: Any, timestep: int) -> tuple[Any, Any, Any]:
        ended = jax.numpy.array([[timestep % 4 == 0], [timestep % 9 == 0]])
        return jax.numpy.stack([loss, loss * 2])[:, None], ended, ~ended & False
