"""What ``keepfast demo`` hands to a backend's demo, and gets back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final


@final
@dataclass(frozen=True)
class DemoSettings:
    """What the command line asks of a demo.

    Attributes:
        env: a Gymnasium environment id with discrete actions and a vector of numbers as observation.
        timesteps: how many timesteps of each environment to train for.
        directory: where the experiment's directory is made.
        seed: seeds the environments, the parameters and the sampling.
        progress: is called after each timestep with the number of completed timesteps and the best score so far, or
            None where there is none. What it raises ends the training; a `KeyboardInterrupt` ends it cleanly.
    """

    env: str
    timesteps: int
    directory: Path
    seed: int
    progress: Callable[[int, float | None], None]


@final
@dataclass(frozen=True)
class DemoResult:
    """What a demo reports when it is done.

    Attributes:
        experiment_dir: the experiment's directory.
        memory_dir: where its memories were exported.
        best_score: the best mean total reward of the training, or None where no episode was judged.
        evaluation_score: the mean return of the best checkpoint, loaded into a fresh agent, or None where there is no
            best checkpoint.
        interrupted: whether Ctrl-C ended the training early.
        timesteps: how many timesteps were completed.
    """

    experiment_dir: Path
    memory_dir: Path
    best_score: float | None
    evaluation_score: float | None
    interrupted: bool
    timesteps: int
