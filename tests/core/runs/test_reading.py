"""What a run's directory holds, read without a framework."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.runs.reading import Latest, find_runs, is_run, read_run

SCORE = "Reward / Total reward (mean)"


def write_metrics(run: Path, tags: Mapping[str, dict[int, float]]) -> Path:
    """Write a run that has nothing but metrics: the value at each step by tag."""
    run.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"step": step, "wall_time": 1.0, "scalars": {tag: value}})
        for tag, points in tags.items()
        for step, value in points.items()
    ]
    (run / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return run


def train(directory: Path, net: Any = None, **settings: Any) -> Path:
    """Leave a run of 20 timesteps whose score rises by one each, up to 20."""
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1, **settings}
    with keepfast.Experiment(cfg, name="PPO", timesteps=20) as experiment:
        if net is not None:
            experiment.register(net=net)
        for timestep in range(20):
            experiment.track_data(SCORE, float(timestep + 1))
            experiment.track_data("Loss / Policy loss", 1 / (timestep + 1))
            experiment.step(timestep)
    return experiment.directory


def test_a_run_tells_its_agent_its_length_and_its_latest_values(tmp_path: Path) -> None:
    """Agent and length come from the configuration, steps and values from the metrics."""
    run = read_run(train(tmp_path))
    assert (run.agent, run.steps, run.timesteps) == ("PPO", 20, 20)
    assert run.latest == {SCORE: Latest(20, 20.0), "Loss / Policy loss": Latest(20, 0.05)}
    assert run.checkpoints == []


def test_the_best_score_is_that_of_the_best_checkpoint(tmp_path: Path, net: Callable[..., Any]) -> None:
    """Where the best is stored, what it was judged by is the best score, and its checkpoint stands last."""
    path = train(tmp_path, net(), checkpoint_interval=10, best_min_episodes=0)
    write_metrics(path, {SCORE: {1: 1000.0}})  # what the metrics say does not count then
    run = read_run(path)
    assert run.best_score == 20.0
    assert [(checkpoint.timestep, checkpoint.best) for checkpoint in run.checkpoints] == [
        (10, False),
        (20, False),
        (20, True),
    ]


def test_without_a_best_checkpoint_the_metrics_tell_the_best_score(tmp_path: Path) -> None:
    """The best finite value of the metric that the run is judged by counts, in the run's own mode."""
    assert read_run(train(tmp_path / "most")).best_score == 20.0
    least = read_run(train(tmp_path / "least", best_mode="min", best_metric="Loss / Policy loss"))
    assert (least.best_metric, least.best_score) == ("Loss / Policy loss", 0.05)
    (tmp_path / "least" / "run" / "metrics.jsonl").write_text(
        '{"step": 1, "wall_time": 1.0, "scalars": {"Loss / Policy loss": NaN}}\n'
        '{"step": 2, "wall_time": 1.0, "scalars": {"Loss / Policy loss": 0.5}}\n'
        '{"step": 3, "wall_time": 1.0, "scalars": {"Loss / Policy loss": -Infinity}}\n'
    )
    assert read_run(tmp_path / "least" / "run").best_score == 0.5


def test_checkpoints_alone_make_a_run(tmp_path: Path, net: Callable[..., Any]) -> None:
    """Without metrics and configuration the checkpoints tell the steps."""
    path = train(tmp_path, net(), checkpoint_interval=5)
    (path / "metrics.jsonl").unlink()
    (path / "config.json").write_text("{torn")
    run = read_run(path)
    assert (run.agent, run.steps, run.timesteps, run.latest) == (None, 20, None, {})
    assert [checkpoint.timestep for checkpoint in run.checkpoints if not checkpoint.best] == [5, 10, 15, 20]


@pytest.mark.parametrize("config", [{"experiment": {"a_later_key": 1}}, {"experiment": 3}, [], "text", None])
def test_settings_of_another_version_are_no_error(tmp_path: Path, config: Any) -> None:
    """What the configuration says of the best is taken by default where it cannot be understood."""
    path = write_metrics(tmp_path / "run", {SCORE: {1: 3.0}})
    (path / "config.json").write_text(json.dumps({"agent": "SAC", "timesteps": None, "config": config}))
    run = read_run(path)
    assert (run.agent, run.best_metric, run.best_score) == ("SAC", SCORE, 3.0)


def test_a_configuration_of_odd_types_tells_nothing(tmp_path: Path) -> None:
    """A name that is no text and a length that is no number are not known."""
    path = write_metrics(tmp_path / "run", {SCORE: {1: 3.0}})
    (path / "config.json").write_text('{"agent": {"name": 1}, "timesteps": "many", "config": {}}')
    run = read_run(path)
    assert (run.agent, run.timesteps, run.steps) == (None, None, 1)
    (path / "config.json").write_text("[" * 100_000)
    assert read_run(path).agent is None


def test_a_directory_that_cannot_be_read_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among the runs of a directory, those that cannot be looked into are passed over with a warning."""
    for name in ("open", "shut"):
        write_metrics(tmp_path / name, {"a": {1: 1.0}})
    shut, entries = tmp_path / "shut", Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path == shut:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.warns(keepfast.KeepfastWarning, match=f"^`{shut}` cannot be read and .*: Permission denied$"):
        assert find_runs(tmp_path) == [tmp_path / "open"]
    with pytest.raises(keepfast.NotFound, match=r"; known: open\. Did you mean `open`\?"):
        read_run(tmp_path / "opne")


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_directory_without_rights_hides_no_other(tmp_path: Path, mode: int) -> None:
    """Whatever right to a run is missing, the others are found."""
    for name in ("open", "shut"):
        write_metrics(tmp_path / name, {"a": {1: 1.0}})
    (tmp_path / "shut").chmod(mode)
    try:
        if os.access(tmp_path / "shut", os.R_OK | os.X_OK):
            pytest.skip("this user, root for one, may read everything")
        with pytest.warns(keepfast.KeepfastWarning, match="cannot be read and was passed over: Permission denied"):
            assert find_runs(tmp_path) == [tmp_path / "open"]
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_size_and_time_are_those_of_the_files(tmp_path: Path) -> None:
    """The size is the sum of all files, and the run is as old as its newest file."""
    path = write_metrics(tmp_path / "run", {"a": {1: 1.0}})
    (path / "media").mkdir()
    (path / "media" / "video.gif").write_bytes(bytes(1000))
    os.utime(path / "metrics.jsonl", (5000, 5000))
    os.utime(path / "media" / "video.gif", (4000, 4000))
    run = read_run(path)
    assert run.size == 1000 + (path / "metrics.jsonl").stat().st_size
    assert run.changed == 5000


def test_runs_are_found_at_any_depth_and_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Runs of groups are found too; what lies inside a run, or in a hidden directory, is no run of its own."""
    for name in ("seed-10", "seed-9", "group/seed-1", "seed-9/wandb/copy", ".hidden/run"):
        write_metrics(tmp_path / name, {"a": {1: 1.0}})
    (tmp_path / "nothing").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}')
    assert [str(path.relative_to(tmp_path)) for path in find_runs(tmp_path)] == ["group/seed-1", "seed-9", "seed-10"]
    assert find_runs(tmp_path / "seed-9") == [tmp_path / "seed-9"]
    assert not is_run(tmp_path / "other")


def test_what_is_no_run_is_told_with_the_runs_beside_it(tmp_path: Path) -> None:
    """NotFound names the path, the runs of the same directory and the nearest; and so for directories without runs."""
    write_metrics(tmp_path / "seed-1", {"a": {1: 1.0}})
    (tmp_path / "notes").mkdir()
    with pytest.raises(keepfast.NotFound, match=r"no run at `.*sead-1`; known: seed-1. Did you mean `seed-1`\?"):
        read_run(tmp_path / "sead-1")
    with pytest.raises(keepfast.NotFound, match="no run at"):
        read_run(tmp_path / "notes")
    with pytest.raises(keepfast.NotFound, match=r"there are no runs in `.*notes`"):
        find_runs(tmp_path / "notes")
    with pytest.raises(FileNotFoundError, match=r"there is no directory `.*absent`"):
        find_runs(tmp_path / "absent")
