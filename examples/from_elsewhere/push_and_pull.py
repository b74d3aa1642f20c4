"""A run is pushed to the Hugging Face Hub, and pulled into a new network: ``python FILE ORGANISATION/NAME``."""

from __future__ import annotations

import sys

import torch
from torch import nn

import keepfast


def policy() -> nn.Module:
    """Return a network."""
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))


if __name__ == "__main__":
    repository = sys.argv[1]
    mine, theirs = policy(), policy()
    cfg = {"experiment_name": "pushed", "writers": ["jsonl"], "write_interval": 1, "checkpoint_interval": 5}
    with keepfast.Experiment(cfg, name="PPO", timesteps=10) as experiment:
        experiment.register(policy=mine)
        for timestep in range(10):
            experiment.track_data("Reward / Total reward (mean)", float(timestep))
            experiment.step(timestep)
    results = {"mean_reward": 9.0, "std_reward": 0.5, "episodes": 20}
    print(keepfast.hub.push("runs/pushed", repository, environment="Pendulum-v1", results=results))

    print(keepfast.load(theirs, f"hf://{repository}/agent.pt", modules=["policy"]))
    inputs = torch.randn(100, 4)
    print(f"the outputs are equal: {torch.equal(mine(inputs), theirs(inputs))}")
    print(*keepfast.hub.pull(repository, "pulled"), sep="\n")
