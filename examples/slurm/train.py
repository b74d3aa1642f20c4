"""Trains one combination of a sweep: each task of an array on SLURM is a run of its own, which goes on where it was.

``sbatch array.sh`` has SLURM start ``python train.py NUMBER`` for each task. Told that the time is nearly up (SIGUSR1),
the run completes its timestep, saves, and ends with code 138, and `array.sh` queues the task again. Preempted (SIGTERM)
or killed, it goes on from its last checkpoint, which is a minute old at most. A task that is started while its earlier
self still runs, on a node that was given up for lost, is refused, for a run's directory has one owner.

``python train.py --submit`` does the same through submitit.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np

import keepfast

SWEEP = list(itertools.product((0.1, 0.01), (1, 2)))
"""The learning rate and the seed of each task."""


def train(task: int, directory: str, timesteps: int, seconds: float) -> float | None:
    """Train one combination, and return its best score.

    Args:
        task: its number in the sweep.
        directory: where all nodes find the runs.
        timesteps: how long to train.
        seconds: how long a timestep takes, in the place of an environment.
    """
    lr, seed = SWEEP[task]
    rng = np.random.default_rng(seed)
    weights = np.zeros(4)
    experiment = {
        "directory": directory,
        "experiment_name": f"lr-{lr}-seed-{seed}",  # of the task, not of the job: a job that is queued again finds it
        "writers": ["jsonl"],
        "checkpoint_seconds": 60.0,
        "keep_last": 2,
        "best_metric": "Reward / Distance",
        "distributed": False,  # tasks of an array are runs of their own
    }
    cfg = {"lr": lr, "seed": seed, "experiment": experiment}
    with keepfast.Experiment(cfg, name="slurm", timesteps=timesteps) as run:
        run.register(policy={"weights": weights}, generator=rng)
        for timestep in range(run.resume(), timesteps):
            target = rng.normal(size=4)  # your environment comes here
            weights += lr * (target - weights)
            run.track_data("Reward / Distance", -float(np.abs(target - weights).sum()))
            time.sleep(seconds)
            run.step(timestep)
        return run.best_score


class Task:
    """A task that submitit can queue again.

    It interrupts the task in the midst of a timestep, so that what counts is the last checkpoint.
    """

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __call__(self) -> float | None:
        """Train."""
        return train(*self.arguments)  # type: ignore[arg-type]

    def checkpoint(self) -> object:
        """Return what is to be queued again: the same, which resumes."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(directory: str, timesteps: int, seconds: float, cluster: str | None = None) -> list[float | None]:
    """Submit every task, and return their scores; `cluster` is "local" where there is no SLURM."""
    import submitit

    executor = submitit.AutoExecutor(folder=Path(directory, "submitit"), cluster=cluster)
    executor.update_parameters(timeout_min=240, name="sweep")
    jobs = [executor.submit(Task(task, directory, timesteps, seconds)) for task in range(len(SWEEP))]
    return [job.result() for job in jobs]


def main() -> None:
    """Train the task whose number is given, or submit all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=int, nargs="?", default=0)
    parser.add_argument("--submit", action="store_true")
    parser.add_argument("--cluster")
    parser.add_argument("--directory", default="runs")
    parser.add_argument("--timesteps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.0)
    asked = parser.parse_args()
    if asked.submit:
        submit(asked.directory, asked.timesteps, asked.seconds, asked.cluster)
    else:
        train(asked.task, asked.directory, asked.timesteps, asked.seconds)


if __name__ == "__main__":
    main()
