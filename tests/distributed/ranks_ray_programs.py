"""What Ray calls in the tests of its trials; a module, so that its processes find it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

import keepfast
from keepfast.adapters.ray import RayTrial

LENGTH = 40


def cfg_in(root: str, name: str, **settings: Any) -> dict[str, Any]:
    own = {"directory": f"{root}/own", "experiment_name": name, "writers": ["jsonl"], "best_metric": "Reward"}
    return {**own, "write_interval": 5, "checkpoint_interval": 10, **settings}


def train(config: dict[str, Any]) -> None:
    """Train weights by their own sum and by chance, so that nothing but an exact resume arrives at the same."""
    import ray.tune

    trial_id = ray.tune.get_context().get_trial_id() or "none"
    weight, rng = np.zeros(3), np.random.default_rng(0)
    experiment = keepfast.Experiment(cfg_in(config["root"], trial_id), name="PPO", timesteps=LENGTH)
    with RayTrial(experiment, ray.tune) as trial:
        experiment.register(policy={"weight": weight}, generator=rng)
        start = trial.resume()
        Path(config["root"], f"start-{trial_id}-{start}").touch()
        for timestep in range(start, LENGTH):
            weight += config["lr"] * rng.random(3)
            experiment.track_data("Reward", float(weight.sum()))
            trial.step(timestep)
            if timestep == config.get("dies_at") and start == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def perturbed(config: dict[str, Any]) -> None:
    """Train at a rate that population-based training changes, taking over another trial's weights."""
    import ray.tune

    trial_id = ray.tune.get_context().get_trial_id() or "none"
    weight = np.zeros(1)
    with RayTrial(keepfast.Experiment(cfg_in(config["root"], trial_id), timesteps=LENGTH), ray.tune) as trial:
        trial.experiment.register(policy={"weight": weight})
        start = trial.resume()
        Path(config["root"], f"start-{trial_id}-{start}-{weight[0]:g}-{config['lr']:g}").touch()
        for timestep in range(start, LENGTH):
            weight += config["lr"]
            trial.experiment.track_data("Reward", float(weight[0]))
            trial.step(timestep)


def worker(config: dict[str, Any]) -> None:
    """Train a network on two workers, whose gradients are brought together."""
    import ray.train
    import ray.train.torch
    import torch

    torch.manual_seed(0)
    net = torch.nn.Linear(2, 1)
    wrapped = ray.train.torch.prepare_model(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    rank = ray.train.get_context().get_world_rank()
    cfg = cfg_in(config["root"], "run", distributed_metrics=config["metrics"])
    with RayTrial(keepfast.Experiment(cfg, timesteps=LENGTH), ray.train) as trial:
        trial.experiment.register(net=net, optimizer=optimizer)
        start = trial.resume()
        Path(config["root"], f"start-{rank}-{start}").touch()
        for timestep in range(start, LENGTH):
            loss = (wrapped(torch.full((4, 2), float(rank + 1))) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            trial.experiment.track_data("Reward", float(rank))
            trial.step(timestep)
            if timestep == config.get("dies_at") and start == 0 and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
