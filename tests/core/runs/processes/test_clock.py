"""Checkpoints by the clock, what is durable, and when a run may stop early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.runs.artifacts.promised import Durable

Net = Any


def names(directory: Path) -> set[str]:
    return {path.stem for path in (directory / "run" / "checkpoints").iterdir()} - {"index"}


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], **settings}


class ByHand(threading.Thread):
    """A timer that goes off when it is told to."""

    made: list[ByHand]

    def __init__(self, seconds: float, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        super().__init__(target=function, args=arguments)
        self.seconds = seconds
        self.is_cancelled = False
        self.made.append(self)

    def start(self) -> None:
        """Wait to be told."""

    def cancel(self) -> None:
        self.is_cancelled = True

    def go_off(self) -> None:
        super().start()
        self.join()


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[ByHand]:
    ByHand.made = []
    monkeypatch.setattr("keepfast.runs.processes.clock.threading.Timer", ByHand)
    return ByHand.made


@pytest.mark.parametrize("interval", [0, 20])
def test_a_checkpoint_comes_by_the_clock(
    interval: int, timers: list[ByHand], net: Callable[..., Net], tmp_path: Path
) -> None:
    """At the end of the timestep in which the time is up, counted from the checkpoint before, without interval too."""
    cfg = cfg_in(tmp_path, checkpoint_interval=interval, checkpoint_seconds=60, write_interval=100)
    with keepfast.Experiment(cfg, timesteps=50) as experiment:
        experiment.register(net=net())
        for timestep in range(50):
            if timestep in (7, 33):
                timers[-1].go_off()
            experiment.step(timestep)
    by_interval = {"agent_20", "agent_40"} if interval else set()
    assert names(tmp_path) == {"agent_8", "agent_34", "agent_50"} | by_interval
    assert {timer.seconds for timer in timers} == {60}
    assert timers[-1].is_cancelled
    assert all(timer.is_cancelled or timer.ident for timer in timers)


def test_time_that_passes_is_noticed(net: Callable[..., Net], tmp_path: Path) -> None:
    """By a real timer, in a loop that counts on and on."""
    cfg = cfg_in(tmp_path, checkpoint_interval=0, checkpoint_seconds=0.05, write_interval=0)
    with keepfast.Experiment(cfg) as experiment:
        experiment.register(net=net())
        stored = threading.Event()
        experiment.when_durable(lambda _: stored.set())
        timestep, deadline = 0, time.monotonic() + 60
        while not stored.is_set() and time.monotonic() < deadline:
            experiment.step(timestep)
            timestep += 1
        assert stored.is_set()


@pytest.mark.parametrize("seconds", [0, -1, "60", float("inf"), True])
def test_no_other_number_of_seconds_is_taken(seconds: Any) -> None:
    """It is above 0."""
    with pytest.raises(keepfast.ConfigError, match="checkpoint_seconds"):
        keepfast.ExperimentConfig(checkpoint_seconds=seconds)


@pytest.mark.parametrize("separately", [False, True])
def test_a_callback_is_told_what_is_durable(separately: bool, net: Callable[..., Net], tmp_path: Path) -> None:
    """With its timestep and its files, which are there; the best too."""
    told: list[Durable] = []

    def note(durable: Durable) -> None:
        assert all(path.exists() for path in durable.paths)
        told.append(durable)

    cfg = cfg_in(tmp_path, checkpoint_interval=10, write_interval=5, best_metric="a", store_separately=separately)
    with keepfast.Experiment(cfg, timesteps=20) as experiment:
        experiment.register(one=net(), two=net())
        experiment.when_durable(note)
        for timestep in range(20):
            experiment.track_data("a", float(timestep < 10))
            experiment.step(timestep)
    assert [(durable.timestep, durable.is_best) for durable in told] == [(5, True), (10, False), (20, False)]
    assert {len(durable.paths) for durable in told} == {2 if separately else 1}


def test_what_a_callback_raises_is_raised_at_the_next_call(net: Callable[..., Net], tmp_path: Path) -> None:
    """And the checkpoint is there none the less."""
    experiment = keepfast.Experiment(cfg_in(tmp_path, checkpoint_interval=10), timesteps=20)
    experiment.register(net=net())
    experiment.when_durable(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    experiment.write_checkpoint(10)
    with pytest.raises(ZeroDivisionError):
        experiment.wait()
    assert names(tmp_path) == {"agent_10"}
    experiment.close()


def test_an_early_stop_counts_over_a_resume(net: Callable[..., Net], tmp_path: Path) -> None:
    """A run that does not improve any more says so, whether it was cut or not; it is told without checkpoints too."""
    scores = [1.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]

    def stops_at(directory: Path, first: int, **settings: Any) -> int | None:
        cfg = cfg_in(directory, write_interval=5, best_metric="a", **{"checkpoint_interval": 10, **settings})
        with keepfast.Experiment(cfg) as experiment:
            experiment.register(net=net())
            for timestep in range(experiment.resume(), first):
                experiment.track_data("a", scores[timestep // 5])
                experiment.step(timestep)
                if not experiment.improved_within(20):
                    return timestep + 1
        return None

    assert stops_at(tmp_path / "whole", 40) == 30
    assert stops_at(tmp_path / "unstored", 40, checkpoint_interval=0) == 30
    assert stops_at(tmp_path / "cut", 20) is None
    assert stops_at(tmp_path / "cut", 40) == 30
