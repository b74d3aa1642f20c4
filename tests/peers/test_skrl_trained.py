"""Policies that skrl trained, of both its lines, on PyTorch and on JAX, act alike in PyTorch and in Flax."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import flax.linen as linen
    import gymnasium
    import jax.numpy as jnp
    import skrl
    import torch
    from skrl.models import jax as in_jax
    from skrl.models import torch as in_torch

from tests.peers.acting import HIDDEN, Actor, assert_acts_alike

pytestmark = pytest.mark.filterwarnings("ignore")

NEW = skrl.__version__ >= "2"
OBSERVED = "observations" if NEW else "states"
ROLLOUTS, TIMESTEPS = 16, 48


def torch_layers(inputs: int, outputs: int) -> Any:
    nn = torch.nn
    return nn.Sequential(
        *(nn.Linear(inputs, HIDDEN[0]), nn.ELU(), nn.Linear(*HIDDEN), nn.ELU(), nn.Linear(HIDDEN[1], outputs))
    )


def flax_layers(x: Any, outputs: int) -> Any:
    for size in HIDDEN:
        x = linen.elu(linen.Dense(size)(x))
    return linen.Dense(outputs)(x)


class TorchPolicy(in_torch.GaussianMixin, in_torch.Model):
    """A policy as skrl's examples have it."""

    def __init__(self, **spaces: Any) -> None:
        in_torch.Model.__init__(self, **spaces)
        in_torch.GaussianMixin.__init__(self)
        self.net = torch_layers(self.num_observations, self.num_actions)
        self.log_std_parameter = torch.nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs: Any, role: str) -> Any:
        mean = self.net(inputs[OBSERVED])
        return (mean, {"log_std": self.log_std_parameter}) if NEW else (mean, self.log_std_parameter, {})


class TorchValue(in_torch.DeterministicMixin, in_torch.Model):
    """A value as skrl's examples have it."""

    def __init__(self, **spaces: Any) -> None:
        in_torch.Model.__init__(self, **spaces)
        in_torch.DeterministicMixin.__init__(self)
        self.net = torch_layers(self.num_observations, 1)

    def compute(self, inputs: Any, role: str) -> Any:
        return self.net(inputs[OBSERVED]), {}


class JaxPolicy(in_jax.GaussianMixin, in_jax.Model):
    """The same on JAX."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any = None, **kwargs: Any) -> None:
        in_jax.Model.__init__(
            self, observation_space=observation_space, action_space=action_space, device=device, **kwargs
        )
        in_jax.GaussianMixin.__init__(self)
        linen.Module.__post_init__(self)

    @linen.compact
    def __call__(self, inputs: Any, role: str) -> Any:
        mean = flax_layers(inputs[OBSERVED], self.num_actions)
        log_std = self.param("log_std_parameter", lambda _: jnp.zeros(self.num_actions))
        return (mean, {"log_std": log_std}) if NEW else (mean, log_std, {})


class JaxValue(in_jax.DeterministicMixin, in_jax.Model):
    """The same on JAX."""

    def __init__(self, observation_space: Any, action_space: Any, device: Any = None, **kwargs: Any) -> None:
        in_jax.Model.__init__(
            self, observation_space=observation_space, action_space=action_space, device=device, **kwargs
        )
        in_jax.DeterministicMixin.__init__(self)
        linen.Module.__post_init__(self)

    @linen.compact
    def __call__(self, inputs: Any, role: str) -> Any:
        return flax_layers(inputs[OBSERVED], 1), {}


MODELS = {"torch": (TorchPolicy, TorchValue), "jax": (JaxPolicy, JaxValue)}


def trained(framework: str, directory: Path) -> Any:
    """Return an agent that its own trainer trained, with a preprocessor of observations."""
    agents = importlib.import_module(f"skrl.agents.{framework}.ppo")
    memory = importlib.import_module(f"skrl.memories.{framework}").RandomMemory
    scaler = importlib.import_module(f"skrl.resources.preprocessors.{framework}").RunningStandardScaler
    trainer = importlib.import_module(f"skrl.trainers.{framework}").SequentialTrainer
    wrap = importlib.import_module(f"skrl.envs.wrappers.{framework}").wrap_env
    env = wrap(gymnasium.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync"), verbose=False)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
    models = {role: kind(**spaces) for role, kind in zip(("policy", "value"), MODELS[framework], strict=True)}
    for role, model in models.items():
        model.init_state_dict(role=role)
    name = OBSERVED.removesuffix("s")
    settings = {
        "rollouts": ROLLOUTS,
        "learning_epochs": 2,
        "mini_batches": 2,
        f"{name}_preprocessor": scaler,
        f"{name}_preprocessor_kwargs": {"size": env.observation_space, "device": env.device},
        "experiment": {"directory": str(directory), "write_interval": 0, "checkpoint_interval": 0, "wandb_kwargs": {}},
    }
    settings = settings if NEW else {**agents.PPO_DEFAULT_CONFIG, **settings}
    kept = memory(memory_size=ROLLOUTS, num_envs=2, device=env.device)
    agent = agents.PPO(models=models, memory=kept, cfg=settings, **spaces)
    cfg = {"timesteps": TIMESTEPS, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    trainer(cfg=cfg, env=env, agents=agent).train()
    return agent


@pytest.mark.parametrize("framework", MODELS)
def test_skrl(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained by its own trainer; its policy's mean, behind its preprocessor, is the same."""
    clip = jnp.clip

    def older(x: Any, *bounds: Any, a_min: Any = None, a_max: Any = None, **named: Any) -> Any:
        """Take the names that skrl 1.4.3 calls it by."""
        return clip(x, *bounds, **named) if a_min is None and a_max is None else clip(x, a_min, a_max)

    monkeypatch.setattr(jnp, "clip", older)
    agent = trained(framework, tmp_path)
    path = tmp_path / ("agent.pt" if framework == "torch" else "agent.pickle")
    agent.save(str(path))
    observations = np.random.default_rng(0).normal(size=(100, 3)).astype("float32") * 3
    given = torch.as_tensor(observations) if framework == "torch" else jnp.asarray(observations)
    scaler = getattr(agent, f"_{OBSERVED.removesuffix('s')}_preprocessor")
    outputs = agent.policy.act({OBSERVED: scaler(given)}, role="policy")[-1]
    mean = outputs["mean_actions"]
    actions = mean.detach().numpy() if framework == "torch" else np.asarray(mean)

    def normalised(x: Any, mean: Any, var: Any) -> Any:
        return np.clip((x - mean) / (np.sqrt(var) + 1e-8), -5, 5)

    for report in assert_acts_alike(path, Actor(3, 1, "elu", normalised), observations, actions):
        assert report.reader == "skrl"
        assert any("clipped to 5" in note for note in report.notes)
