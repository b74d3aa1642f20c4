"""PPO of rejax on CartPole: ``python FILE [TIMESTEPS]``."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import jax
from jax.experimental import io_callback
from rejax import PPO

import keepfast

TIMESTEPS, FREQUENCY = int([*sys.argv, "16384"][1]), 4096  # rejax learns every 64 steps of 64 environments

algorithm = PPO.create(env="CartPole-v1", total_timesteps=TIMESTEPS, eval_freq=FREQUENCY, skip_initial_evaluation=True)
evaluate = algorithm.eval_callback
held = SimpleNamespace(train_state=jax.jit(algorithm.init_state)(jax.random.PRNGKey(1)))

experiment = keepfast.Experiment({"experiment_name": "rejax", "checkpoint_interval": FREQUENCY}, timesteps=TIMESTEPS)
experiment.register(train_state=keepfast.attribute(held, "train_state"))


def keep(train_state: Any, lengths: Any, returns: Any) -> None:
    """Take what an evaluation found, and the state of the training."""
    held.train_state = train_state
    experiment.track_data("eval/return", returns.mean())
    experiment.track_data("eval/length", lengths.mean())
    experiment.step(int(train_state.global_step) - 1)


def eval_callback(algorithm: PPO, train_state: Any, rng: Any) -> Any:
    """Evaluate as rejax does, and hand the training over, in its order."""
    lengths, returns = evaluate(algorithm, train_state, rng)
    io_callback(keep, None, train_state, lengths, returns, ordered=True)
    return lengths, returns


start = experiment.resume()
if start < TIMESTEPS:
    algorithm = algorithm.replace(eval_callback=eval_callback, total_timesteps=TIMESTEPS - start)
    train_state, _ = jax.block_until_ready(jax.jit(algorithm.train)(train_state=held.train_state))
experiment.close()
