"""Which process of several writes a run, and what the others say."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import keepfast
from keepfast.runs.processes import place
from keepfast.runs.processes.place import Place, place_of

TOLD = r"rank 1 of a distributed run, as told by {}.*: it writes neither metrics nor checkpoints.*`distributed` to F"


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    settings = {"writers": ["jsonl"], "write_interval": 5, **settings}
    return {"directory": str(directory), "experiment_name": "run", **settings}


def train(experiment: keepfast.Experiment, steps: range) -> None:
    for timestep in steps:
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return what stands for a process group: it comes to be when its `ranks` are set."""
    group = SimpleNamespace(ranks={})
    monkeypatch.setattr(place, "group_ranks", lambda: group.ranks)
    return group


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"RANK": "3"}, 0),
        ({"RANK": "3", "WORLD_SIZE": "1"}, 0),
        ({"RANK": "3", "WORLD_SIZE": "4"}, 3),
        ({"SLURM_PROCID": "2"}, 0),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, 0),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "2"}, 1),
        ({"RANK": "", "WORLD_SIZE": "2"}, 0),
    ],
    ids=str,
)
def test_launchers_tell_the_rank(environment: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """RANK with a WORLD_SIZE above 1, as torchrun sets them; what SLURM sets says nothing of a distributed run."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert place_of("auto").rank == rank


def test_a_process_group_knows_best(group: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a framework was set up with counts before what a launcher said."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    group.ranks = {"torch": 1}
    assert place_of("auto") == Place(1, "the process group of `torch`")
    monkeypatch.setenv("RANK", "7")
    group.ranks = {"first": 0, "third": 3}  # of several the one that is not the first, for one process alone is
    assert place_of("auto").rank == 3


@pytest.mark.parametrize(("setting", "rank"), [(False, 0), ({"rank": 2, "world_size": 3}, 2)], ids=str)
def test_the_setting_decides(setting: Any, rank: int, group: SimpleNamespace) -> None:
    """Where `distributed` is set, neither groups nor launchers are asked."""
    group.ranks = {"torch": 1}
    assert place_of(setting).rank == rank


@pytest.mark.parametrize(
    "setting",
    [{"rank": 2, "world_size": 2}, {"rank": -1, "world_size": 2}, {"rank": 0}, {"rank": True, "world_size": 2}, True],
    ids=str,
)
def test_a_place_that_cannot_be_is_refused(setting: Any) -> None:
    """A rank is below the world's size, and both are given."""
    with pytest.raises(keepfast.ConfigError, match=r"`distributed` is .* 0 <= r < n"):
        keepfast.ExperimentConfig(distributed=setting)


def test_several_seeds_in_one_srun_are_runs_of_their_own(tmp_path: Path) -> None:
    """Programs that SLURM numbers, without any process group, all write."""
    program = """
        import sys, keepfast
        cfg = {"directory": sys.argv[1], "experiment_name": f"seed-{sys.argv[2]}", "writers": ["jsonl"]}
        with keepfast.Experiment(cfg, timesteps=10) as experiment:
            for timestep in range(10):
                experiment.track_data("a", 1.0)
                experiment.step(timestep)
    """
    for seed in ("0", "2"):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(tmp_path), seed]
        subprocess.run(command, check=True, env={**os.environ, "SLURM_PROCID": seed, "SLURM_NTASKS": "3"})
        assert keepfast.read_metrics(tmp_path / f"seed-{seed}")["a"].steps.tolist() == list(range(1, 11))


def test_a_process_that_does_not_write_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names what it takes itself for, who told, and the way out; and leaves nothing."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.warns(keepfast.KeepfastWarning, match=TOLD.format("RANK=1 and WORLD_SIZE=2")) as told,
        keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment,
    ):
        train(experiment, range(10))
    assert len(told) == 1
    assert list(tmp_path.iterdir()) == []
    with keepfast.Experiment(cfg_in(tmp_path, distributed=False), timesteps=10) as experiment:
        train(experiment, range(10))
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("first", ["step", "write", "checkpoint", "writer", "resume", "close", "writer before"])
def test_a_group_that_comes_late_is_noticed_before_anything_is_written(
    tmp_path: Path, group: SimpleNamespace, net: Callable[..., Any], first: str
) -> None:
    """The process that is not its first says so at its first call that writes, and leaves nothing of its own."""
    experiment = keepfast.Experiment(cfg_in(tmp_path), timesteps=10)
    experiment.register(policy=net())
    experiment.track_data("a", 1.0)
    writer = experiment.writer if first == "writer before" else None
    group.ranks = {"torch": 1}
    calls: dict[str, Callable[[], Any]] = {
        "write": lambda: experiment.write_tracking_data(5),
        "checkpoint": lambda: experiment.write_checkpoint(5),
        "writer": lambda: experiment.writer.add_scalar("a", 1.0, 1),
        "resume": experiment.resume,
        "close": experiment.close,
    }
    with pytest.warns(keepfast.KeepfastWarning, match=TOLD.format("the process group of `torch`")) as told:
        calls.get(first, lambda: experiment.step(0))()
        if first != "close":
            train(experiment, range(1, 10))
            if writer is not None:
                writer.add_scalar("a", 1.0, 1)
            experiment.close()
    assert len(told) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_a_late_group_goes_on(tmp_path: Path, group: SimpleNamespace) -> None:
    """Rank 0 writes as if the group had been there from the start, and so does who has written before there was one."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=20) as experiment:
        group.ranks = {"torch": 0}
        train(experiment, range(10))
        group.ranks = {"torch": 1}
        train(experiment, range(10, 20))
    assert keepfast.read_metrics(tmp_path / "run")["a"].steps.tolist() == [5, 10, 15, 20]


def test_what_an_earlier_run_left_stays_when_a_rank_stands_aside(tmp_path: Path, group: SimpleNamespace) -> None:
    """A process that turns out not to be the first removes what it made alone."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment:
        train(experiment, range(10))
    before = {path.name for path in (tmp_path / "run").iterdir()}
    experiment = keepfast.Experiment(cfg_in(tmp_path), timesteps=20)
    group.ranks = {"torch": 1}
    with pytest.warns(keepfast.KeepfastWarning, match="rank 1"):
        experiment.step(0)
    assert {path.name for path in (tmp_path / "run").iterdir()} == before
    experiment.close()
