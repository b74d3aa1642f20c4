"""PPO of brax, as mujoco_playground trains with it: ``python FILE [TIMESTEPS]``."""

from __future__ import annotations

import functools
import sys
from types import SimpleNamespace
from typing import Any

from brax import envs
from brax.training.agents.ppo import networks, train

import keepfast

TIMESTEPS, EVALUATIONS = int([*sys.argv, "4096"][1]), 5

environment = envs.get_environment("fast")
settings: dict[str, Any] = {"episode_length": 16, "num_envs": 8, "unroll_length": 4, "batch_size": 8, "seed": 1}
settings |= {"num_minibatches": 4, "num_updates_per_batch": 2, "normalize_observations": True, "num_eval_envs": 8}
small = {"policy_hidden_layer_sizes": (16,), "value_hidden_layer_sizes": (16,)}
factory = functools.partial(networks.make_ppo_networks, **small)

_, params, _ = train.train(environment=environment, num_timesteps=0, network_factory=factory, **settings)
held = SimpleNamespace(params=params)
cfg = {"experiment_name": "brax", "checkpoint_interval": 1024}
experiment = keepfast.Experiment(cfg, name="PPO", timesteps=TIMESTEPS)
experiment.register(params=keepfast.attribute(held, "params"))


def policy_params_fn(_step: int, _make_policy: Any, params: Any) -> None:
    """Take normaliser, policy and value, which is all that brax hands over."""
    held.params = params


def progress_fn(step: int, metrics: Any) -> None:
    """Track what the evaluation and the training found, and complete the steps until there."""
    for tag, value in metrics.items():
        experiment.track_data(tag, value)
    if step > 0:
        experiment.step(start + step - 1)


start = experiment.resume()
train.train(
    environment=environment,
    num_timesteps=TIMESTEPS - start,
    num_evals=EVALUATIONS,
    network_factory=factory,
    progress_fn=progress_fn,
    policy_params_fn=policy_params_fn,
    restore_params=held.params if start else None,
    **settings,
)
experiment.close()
