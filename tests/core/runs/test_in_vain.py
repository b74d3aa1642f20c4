"""What is asked for in vain is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.runs.in_vain import idle_settings

Net = Any


def run(net: Net, directory: Path, tags: dict[str, float], writes: int, **settings: Any) -> None:
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1, **settings}
    with keepfast.Experiment(cfg) as experiment:
        experiment.register(policy=net)
        for timestep in range(writes):
            for tag, value in tags.items():
                experiment.track_data(tag, value)
            experiment.step(timestep)


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ({}, set()),
        ({"checkpoint_interval": 0}, set()),
        ({"checkpoint_interval": 0, "keep_last": 2, "store_separately": True}, {"keep_last", "store_separately"}),
        ({"checkpoint_interval": -1, "checkpoint_format": "pt"}, {"checkpoint_format"}),
        ({"checkpoint_interval": 0, "memory_checkpoint_interval": 5}, {"memory_checkpoint_interval"}),
        ({"checkpoint_interval": 0, "memory_checkpoints": "whole"}, {"memory_checkpoints"}),
        ({"checkpoint_interval": 0, "async_checkpoints": False}, {"async_checkpoints"}),
        ({"checkpoint_interval": 0, "best_metric": "Eval / return"}, set()),
        ({"keep_every": 10}, {"keep_every"}),
        ({"keep_every": 10, "keep_last": 1}, set()),
        ({"keep_best": 0, "best_min_episodes": 3}, {"best_min_episodes"}),
        ({"write_interval": 0, "best_min_episodes": 3}, {"best_min_episodes"}),
        ({"write_interval": 0, "best_metric": "a", "best_mode": "min"}, {"best_metric", "best_mode"}),
        ({"wandb_kwargs": {"project": "p"}}, {"wandb_kwargs"}),
        ({"wandb_kwargs": {"project": "p"}, "wandb": True}, set()),
        ({"wandb_kwargs": {"project": "p"}, "writers": ["wandb"]}, set()),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_settings_that_can_have_no_effect_are_known(settings: dict[str, Any], idle: set[str]) -> None:
    """Those that differ from their defaults where another setting takes what they are for."""
    assert set(idle_settings(keepfast.ExperimentConfig(settings))) == idle


def test_settings_without_effect_are_told_at_the_start(tmp_path: Path) -> None:
    """In one warning, each with what stands in its way."""
    cfg = {
        "directory": str(tmp_path),
        "writers": [],
        "checkpoint_interval": 0,
        "keep_last": 2,
        "wandb_kwargs": {"a": 1},
    }
    with pytest.warns(keepfast.KeepfastWarning, match="these settings have no effect: ") as told:
        keepfast.Experiment(cfg).close()
    assert len(told) == 1
    assert "`keep_last` (`checkpoint_interval` allows no checkpoint)" in str(told[0].message)
    assert "`wandb_kwargs` (`wandb` is False, and `writers` does not name it)" in str(told[0].message)


def test_an_interval_of_memories_without_a_memory_is_told_once(net: Callable[..., Net], tmp_path: Path) -> None:
    """With the first checkpoint, which is stored."""
    settings = {"checkpoint_interval": 2, "memory_checkpoint_interval": 4}
    told = "`memory_checkpoint_interval` is set and no memory is registered"
    with pytest.warns(keepfast.KeepfastWarning, match=told) as warned:
        run(net(), tmp_path, {}, 8, **settings)
    assert len(warned) == 1
    assert (tmp_path / "run" / "checkpoints" / "agent_2.safetensors").exists()


def test_a_metric_that_is_nearly_a_tag_is_told_after_the_first_writes(net: Callable[..., Net], tmp_path: Path) -> None:
    """Once, with the tag that was meant, while there is training left to save."""
    said = "`best_metric` is `Eval / Return`, .*no best is stored; did you mean `Eval / return`"
    with pytest.warns(keepfast.KeepfastWarning, match=said) as told:
        run(net(), tmp_path, {"Eval / return": 1.0, "Loss": 2.0}, 20, best_metric="Eval / Return")
    assert len(told) == 1
    assert not (tmp_path / "run" / "checkpoints" / "best_agent.safetensors").exists()


def test_a_metric_that_is_nearly_a_tag_is_told_without_checkpoints_too(tmp_path: Path) -> None:
    """An early stop is judged by it, and runs are listed by it."""
    cfg = {"directory": str(tmp_path), "writers": [], "write_interval": 1, "checkpoint_interval": 0}
    with (
        pytest.warns(keepfast.KeepfastWarning, match="did you mean `Eval / return`") as told,
        keepfast.Experiment({**cfg, "best_metric": "Eval / Return"}) as experiment,
    ):
        for timestep in range(8):
            experiment.track_data("Eval / return", 1.0)
            experiment.step(timestep)
    assert len(told) == 1


def test_a_metric_that_never_came_is_told_at_close(net: Callable[..., Net], tmp_path: Path) -> None:
    """With what was written in its place; one that came late is not told."""
    with pytest.warns(keepfast.KeepfastWarning, match="which is not among .*; written were: Loss, lr") as told:
        run(net(), tmp_path, {"Loss": 2.0, "lr": 0.1}, 20, best_metric="Eval / Return")
    assert len(told) == 1
    cfg = {"directory": str(tmp_path), "writers": [], "write_interval": 1, "best_metric": "Eval / Return"}
    with keepfast.Experiment(cfg) as experiment:
        experiment.register(policy=net())
        for timestep in range(10):
            experiment.track_data("Loss", 1.0)
            if timestep == 9:
                experiment.track_data("Eval / Return", 1.0)
            experiment.step(timestep)


def test_checkpoints_of_nothing_are_told_once(tmp_path: Path) -> None:
    """Where an interval was asked for and no module was registered."""
    cfg = {"directory": str(tmp_path), "writers": [], "checkpoint_interval": 5}
    with (
        pytest.warns(keepfast.KeepfastWarning, match="a checkpoint is due and no module is registered") as told,
        keepfast.Experiment(cfg) as experiment,
    ):
        for timestep in range(20):
            experiment.step(timestep)
    assert len(told) == 1
