"""Policies that Brax and a program like CleanRL's on JAX trained act alike in both frameworks; and our own files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not __import__("importlib").util.find_spec("brax"):
    pytest.skip("the libraries are installed by the session `peers` alone", allow_module_level=True)

import flax.serialization
import jax
import optax

import keepfast
from tests.peers.acting import HIDDEN, Actor, FlaxMlp, TorchMlp, assert_acts_alike

pytestmark = pytest.mark.filterwarnings("ignore")

OBSERVATIONS = np.random.default_rng(0).normal(size=(100, 4)).astype("float32") * 3


@pytest.fixture(scope="module")
def brax_trained() -> Any:
    """Return what Brax's own PPO made of its quickest environment: the maker of policies, and the parameters."""
    from brax import envs
    from brax.training.agents.ppo import networks, train

    if "device_put_replicated" not in dir(jax):  # newer ones of JAX do without, and this Brax not yet
        jax.device_put_replicated = lambda tree, devices: jax.tree.map(
            lambda leaf: jax.numpy.stack([leaf] * len(devices)), tree
        )
    sizes = {"policy_hidden_layer_sizes": HIDDEN, "value_hidden_layer_sizes": HIDDEN}
    made, params, _ = train.train(
        environment=envs.get_environment("fast"),
        network_factory=functools.partial(networks.make_ppo_networks, **sizes),
        num_timesteps=64,
        episode_length=8,
        num_envs=4,
        num_eval_envs=2,
        num_evals=1,
        batch_size=4,
        num_minibatches=1,
        unroll_length=4,
        num_updates_per_batch=1,
        normalize_observations=True,
    )
    return made, params


@pytest.mark.parametrize("how", ["msgpack", "pickle"])
def test_brax(how: str, brax_trained: Any, tmp_path: Path) -> None:
    """Trained for some steps, saved by its own `save_params` and as Flax's bytes."""
    from brax.io import model

    made, params = brax_trained
    path = tmp_path / "params"
    if how == "pickle":
        model.save_params(str(path), params)
    else:
        path.write_bytes(flax.serialization.to_bytes(params))
    seen = OBSERVATIONS[:, :2]
    actions, _ = made(params[:2], deterministic=True)(seen, jax.random.key(0))
    actor = Actor(2, 2, "silu", lambda x, mean, var: (x - mean) / np.sqrt(var), lambda x: np.tanh(x[:, :1]))
    for report in assert_acts_alike(path, actor, seen, np.asarray(actions)):
        assert report.reader == "brax"


def regressed(steps: int = 20) -> tuple[FlaxMlp, Any]:
    """Return a network of Flax after some steps towards a target, as a program in one file trains it."""
    module = FlaxMlp(2, "tanh")
    params = module.init(jax.random.key(0), OBSERVATIONS)
    optimizer = optax.adam(1e-2)
    state = optimizer.init(params)
    gradient = jax.jit(
        jax.grad(lambda params: ((module.apply(params, OBSERVATIONS) - OBSERVATIONS[:, :2]) ** 2).mean())
    )
    for _ in range(steps):
        updates, state = optimizer.update(gradient(params), state)
        params = optax.apply_updates(params, updates)
    return module, params


def test_cleanrl_on_jax(tmp_path: Path) -> None:
    """Flax's bytes of a program's arguments and of the parameters of its networks, as CleanRL's JAX files save them."""
    module, params = regressed()
    critic = FlaxMlp(1, "tanh").init(jax.random.key(2), OBSERVATIONS)
    content = [{"seed": 1, "env_id": "Reacher-v5", "learning_rate": 3e-4}, [params, critic]]
    (tmp_path / "ppo.cleanrl_model").write_bytes(flax.serialization.to_bytes(content))
    actions = np.asarray(module.apply(params, OBSERVATIONS))
    for report in assert_acts_alike(tmp_path / "ppo.cleanrl_model", Actor(4, 2, "tanh"), OBSERVATIONS, actions):
        assert report.reader == "plain"


@pytest.mark.parametrize("extension", ["safetensors", "msgpack", "pt"])
def test_keepfast(extension: str, tmp_path: Path) -> None:
    """A checkpoint of our own, written on JAX, in each format."""
    import keepfast_jax

    module, params = regressed()
    critic = FlaxMlp(1, "tanh")
    agent = keepfast.Agent(
        {
            "policy": keepfast_jax.Model(module, params),
            "value": keepfast_jax.Model(critic, critic.init(jax.random.key(2), OBSERVATIONS)),
        }
    )
    path = agent.save(tmp_path / f"agent.{extension}")
    actions = np.asarray(module.apply(params, OBSERVATIONS))
    for report in assert_acts_alike(path, Actor(4, 2, "tanh"), OBSERVATIONS, actions):
        assert report.reader == "keepfast"


def test_keepfast_of_pytorch(tmp_path: Path) -> None:
    """And one that was written on PyTorch."""
    agent = keepfast.Agent({"policy": TorchMlp(4, 2, "tanh"), "value": TorchMlp(4, 1, "tanh")})
    path = agent.save(tmp_path / "agent.pt")
    import torch

    actions = agent.models["policy"](torch.as_tensor(OBSERVATIONS)).detach().numpy()
    for report in assert_acts_alike(path, Actor(4, 2, "tanh"), OBSERVATIONS, actions):
        assert report.reader == "keepfast"
