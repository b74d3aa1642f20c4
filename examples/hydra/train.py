"""Trains under Hydra, in a directory that is named by what is varied: the same command goes on where it broke off.

``python train.py lr=0.1`` trains once; ``python train.py -m lr=0.1,0.01 seed=1,2`` sweeps. Killed and started again, a
sweep passes over what is complete, goes on in the middle of the run that was killed, and trains the rest. A sweeper
that optimizes gets the best score of each run, for `main` returns it.
"""

from __future__ import annotations

import hydra
import torch
from omegaconf import DictConfig

import keepfast


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Train once, and return the best score."""
    torch.manual_seed(cfg.seed)
    policy = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.Adam(policy.parameters(), cfg.lr)
    with keepfast.Experiment(cfg, name="hydra", timesteps=cfg.timesteps) as experiment:
        experiment.register(policy=policy, optimizer=optimizer)
        for timestep in range(experiment.resume(), cfg.timesteps):
            observations = torch.randn(16, 4)  # your environment comes here
            loss = (policy(observations) - observations.sum(1, keepdim=True)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            experiment.track_data("Loss / Distance", loss)
            experiment.step(timestep)
        return experiment.best_score


if __name__ == "__main__":
    main()
