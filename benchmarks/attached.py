"""Trains one agent of another library alone, with the library's own tracking and saving, and attached, in turns.

``python -m benchmarks.attached KIND DIRECTORY ROUNDS`` prints the processor's seconds of each round as JSON. It runs in
a process of its own, which has the one version of the library that it is about.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TIMESTEPS = {"skrl PPO": 3200, "skrl SAC": 1200, "sb3 PPO": 12800}
"""By what is trained, how long; each writes a hundred times in it and saves ten times, as skrl's defaults are.

People train for longer, where what is done at each timestep counts for more, and what is done a hundred times for less.
"""

NONE = {"write_interval": 0, "checkpoint_interval": 0}
TRACKED = {"write_interval": "auto", "checkpoint_interval": 0}
BOTH = {"write_interval": "auto", "checkpoint_interval": "auto"}

Round = Callable[[Path], float]


def rounds_of(kind: str) -> Mapping[str, Round]:
    """Return what trains alone, with the library's own tracking and saving, and attached."""
    if kind.startswith("sb3"):
        return _rounds_of_sb3(TIMESTEPS[kind])
    return _rounds_of_skrl(kind.split()[1], TIMESTEPS[kind])


def timed(*work: Callable[[], object]) -> float:
    """Return the processor's seconds, of all threads, that some work takes."""
    gc.collect()  # of what was made before
    start = time.process_time()
    for each in work:
        each()
    return time.process_time() - start


def _rounds_of_skrl(kind: str, timesteps: int) -> Mapping[str, Round]:
    from skrl import logger

    import keepfast
    from tests.peers import skrl_torch as zoo

    logger.setLevel(logging.ERROR)

    def own(intervals: dict[str, Any]) -> Round:
        def one(directory: Path) -> float:
            agent, env = zoo.agent_and_env(kind, directory, **intervals)
            return timed(lambda: zoo.train(agent, env, 0, timesteps), lambda: intervals is NONE or agent.writer.close())

        return one

    def attached(intervals: dict[str, Any]) -> Round:
        def one(directory: Path) -> float:
            agent, env = zoo.agent_and_env(kind, directory, **intervals)
            experiment = keepfast.attach(agent, timesteps=timesteps)
            return timed(lambda: zoo.train(agent, env, 0, timesteps), experiment.close)

        return one

    return _named(own(NONE), own(TRACKED), own(BOTH), attached(TRACKED), attached(BOTH))


def _named(*rounds: Round) -> dict[str, Round]:
    return dict(zip(("alone", "own tracking", "own", "tracking", "attached"), rounds, strict=True))


def _rounds_of_sb3(timesteps: int) -> Mapping[str, Round]:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import CheckpointCallback
    from stable_baselines3.common.env_util import make_vec_env

    import keepfast

    def model(**settings: Any) -> Any:
        settings = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "device": "cpu", "seed": 3, **settings}
        return PPO("MlpPolicy", make_vec_env("CartPole-v1", 4, seed=3), **settings)

    def alone(directory: Path) -> float:
        made = model()
        return timed(lambda: made.learn(timesteps, log_interval=None))

    def own(saving: bool) -> Round:
        def one(directory: Path) -> float:
            made = model(tensorboard_log=str(directory))
            every = timesteps // 40  # counted in steps of four environments
            callback = CheckpointCallback(every, str(directory / "saved")) if saving else None
            return timed(lambda: made.learn(timesteps, callback=callback, log_interval=1), lambda: made.logger.close())

        return one

    def attached(saving: bool) -> Round:
        settings = {} if saving else {"checkpoint_interval": 0}

        def one(directory: Path) -> float:
            made = model()
            # The library keeps no best model by its training rewards, and so neither do we.
            given = {"directory": str(directory), "experiment_name": "run", "keep_best": 0, **settings}
            experiment = keepfast.attach(made, given)
            return timed(lambda: made.learn(timesteps, log_interval=1), experiment.close)

        return one

    return _named(alone, own(False), own(True), attached(False), attached(True))


def measured(kind: str, directory: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round, of which one more warms up; they take turns in an order that alternates."""
    contenders = rounds_of(kind)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-1, rounds):
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            seconds = contenders[name](directory / f"{name} {number}")
            if number >= 0:
                taken[name].append(seconds)
    return taken


def main() -> None:
    """Measure what the command line names."""
    kind, directory, rounds = sys.argv[1:]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        taken = measured(kind, Path(directory), int(rounds))
    print(json.dumps({"library": _library(kind), "taken": taken}))


def _library(kind: str) -> str:
    name = "stable-baselines3" if kind.startswith("sb3") else "skrl"
    return f"{name} {importlib.import_module(name.replace('-', '_')).__version__}"


if __name__ == "__main__":
    main()
