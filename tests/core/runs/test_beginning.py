"""When a run's writers begin, and that those handed out stay what they are."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import keepfast

Net = Any


class LateWriter(keepfast.Writer):
    """Starts only where its file's directory is there, and counts how often it tried."""

    tries = 0
    states: list[Mapping[str, Any]] = []  # noqa: RUF012  (what tests look at)
    closed = 0

    def __init__(self, context: keepfast.WriterContext) -> None:
        type(self).tries += 1
        self._path = context.directory.parent / "mounted" / "late.txt"
        self._path.touch()

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        with self._path.open("a") as file:
            file.write(f"{step}\n")

    def state_dict(self) -> dict[str, Any]:
        return {"id": "abc"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.states.append(state)

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def late() -> Iterator[type[LateWriter]]:
    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"late": LateWriter}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "late-writer")
    LateWriter.tries = LateWriter.closed = 0
    LateWriter.states.clear()
    yield LateWriter
    keepfast.plugins.registry().unregister(plugin)


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    own = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}
    return {**own, "checkpoint_interval": 10, **settings}


def steps_of(directory: Path, tag: str) -> list[int]:
    rows = [json.loads(line) for line in (directory / "run" / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if tag in row["scalars"]]


def train(experiment: keepfast.Experiment, begin: int, end: int) -> None:
    for timestep in range(begin, end):
        experiment.track_data("a", float(timestep))
        experiment.step(timestep)


@pytest.mark.parametrize("on_writer_error", ["warn", "raise"])
def test_a_writer_handed_out_stays_valid_through_a_resume(
    net: Callable[..., Net], tmp_path: Path, on_writer_error: str
) -> None:
    """What is written to it before, and after, is in the files; what lies beyond the checkpoint is void."""
    cfg = cfg_in(tmp_path, on_writer_error=on_writer_error)
    for begin in (0, 20, 40):
        with keepfast.Experiment(cfg, timesteps=100) as experiment:
            experiment.register(policy=net())
            writer = experiment.writer
            writer.add_scalar("before", 1.0, begin)
            writer.add_scalar("before", 1.0, begin + 1)
            assert experiment.resume() == begin
            assert experiment.writer is writer
            writer.add_scalar("after", 1.0, begin + 1)
            train(experiment, begin, begin + 20)
            writer.add_scalar("after", 1.0, begin + 20)
            inner = writer.writers["jsonl"]
        assert inner is not writer
    assert steps_of(tmp_path, "before") == [0, 1, 20, 40]
    assert steps_of(tmp_path, "after") == [1, 20, 21, 40, 41, 60]
    assert steps_of(tmp_path, "a") == list(range(1, 61))


def test_an_agents_writer_stays_valid_through_resumes_in_mid_run(net: Callable[..., Net], tmp_path: Path) -> None:
    """However often it goes back, one handle writes, and each time its inner writers are made anew."""
    agent = keepfast.Agent({"policy": net()}, cfg={"experiment": cfg_in(tmp_path)})
    agent.init({"timesteps": 100})
    writer, inner = agent.writer, set()
    for _ in range(3):
        for timestep in range(agent.resume(), agent.experiment.completed + 15):
            agent.post_interaction(timestep, 100)
        writer.add_scalar("mine", 1.0, agent.experiment.completed)
        inner.add(writer.writers["jsonl"])
        assert agent.writer is writer
    agent.close()
    assert len(inner) == 3
    assert steps_of(tmp_path, "mine") == [35]
    with pytest.raises(keepfast.UsageError, match="closed"):
        writer.add_scalar("mine", 1.0, 36)


def test_writers_begin_with_a_run_that_has_nothing_to_resume(net: Callable[..., Net], tmp_path: Path) -> None:
    """They are there right after the start, before anything is written."""
    with keepfast.Experiment(cfg_in(tmp_path), timesteps=10) as experiment:
        assert (tmp_path / "run" / "metrics.jsonl").exists()
        experiment.register(policy=net())
        train(experiment, 0, 10)


def test_writers_of_a_run_that_may_be_resumed_begin_with_the_resume(
    net: Callable[..., Net], tmp_path: Path, late: type[LateWriter]
) -> None:
    """In the directory of an earlier run they are made once, and know by then where it goes on."""
    (tmp_path / "mounted").mkdir()
    cfg = cfg_in(tmp_path, writers=["late"])
    with keepfast.Experiment(cfg, timesteps=100) as experiment:
        experiment.register(policy=net())
        assert late.tries == 1
        train(experiment, 0, 10)
    with keepfast.Experiment(cfg, timesteps=100) as experiment:
        experiment.register(policy=net())
        assert late.tries == 1
        assert experiment.resume() == 10
        assert late.tries == 2


def test_writers_without_an_interval_wait_for_a_need(tmp_path: Path, late: type[LateWriter]) -> None:
    """With `write_interval: 0` they begin with the first call, so a run that writes nothing leaves no file."""
    (tmp_path / "mounted").mkdir()
    with keepfast.Experiment(cfg_in(tmp_path, writers=["late"], write_interval=0), timesteps=10) as experiment:
        experiment.resume()
        writer = experiment.writer
        assert late.tries == 0
        writer.add_scalar("a", 1.0, 1)
        assert late.tries == 1


def test_a_writer_that_could_not_start_is_tried_again(
    net: Callable[..., Net], tmp_path: Path, late: type[LateWriter]
) -> None:
    """Once there is room it keeps what comes; what it lost is told at close, and the state it resumed with is given."""
    cfg = cfg_in(tmp_path, writers=["late", "jsonl"])
    with pytest.warns(keepfast.KeepfastWarning) as told, keepfast.Experiment(cfg, timesteps=100_000) as experiment:
        experiment.register(policy=net())
        train(experiment, 0, 5)
        (tmp_path / "mounted").mkdir()
        steps, deadline = 5, time.monotonic() + 30
        while not (tmp_path / "mounted" / "late.txt").exists() and time.monotonic() < deadline:
            train(experiment, steps, steps + 1)
            steps += 1
            time.sleep(0.01)
        train(experiment, steps, steps + 5)
        experiment.writer.flush()
        health = experiment.writer.health["late"]
        kept = [int(line) for line in (tmp_path / "mounted" / "late.txt").read_text().splitlines()]
    assert kept == list(range(health.dropped + 1, steps + 6))
    assert health.dropped >= 5
    messages = [str(warning.message) for warning in told]
    assert [message.partition(":")[0] for message in messages] == [
        "writer `late` cannot start",
        "not every writer kept everything",
    ]
    assert f"late: {health.dropped} calls were dropped because it could not start" in messages[1]
    assert steps_of(tmp_path, "a") == list(range(1, steps + 6))


def test_a_writer_that_cannot_start_is_not_tried_on_every_step(tmp_path: Path, late: type[LateWriter]) -> None:
    """Its pauses grow: of a thousand writes few try again, and each that is lost is counted."""
    cfg = cfg_in(tmp_path, writers=["late"])
    began = time.monotonic()
    with pytest.warns(keepfast.KeepfastWarning) as told, keepfast.Experiment(cfg, timesteps=1000) as experiment:
        train(experiment, 0, 1000)
        experiment.writer.flush()
    assert late.tries <= 2 + math.log2(1 + (time.monotonic() - began) / 0.1)
    assert "late: 1000 calls were dropped" in str(told[-1].message)


def test_a_writer_that_starts_late_has_the_state_it_resumed_with(
    net: Callable[..., Net], tmp_path: Path, late: type[LateWriter]
) -> None:
    """And checkpoints in between carry on what they know of it."""
    cfg = cfg_in(tmp_path, writers=["late"], checkpoint_interval=5)
    place = tmp_path / "mounted"
    place.mkdir()
    with keepfast.Experiment(cfg, timesteps=100) as experiment:
        experiment.register(policy=net())
        train(experiment, 0, 10)
    (place / "late.txt").unlink()
    place.rmdir()
    with pytest.warns(keepfast.KeepfastWarning), keepfast.Experiment(cfg, timesteps=100) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 10
        train(experiment, 10, 15)
    place.mkdir()
    with keepfast.Experiment(cfg, timesteps=100) as experiment:
        experiment.register(policy=net())
        assert experiment.resume() == 15
        train(experiment, 15, 20)
    assert late.states == [{"id": "abc"}]


def test_an_error_at_the_start_leaves_no_writer_open(tmp_path: Path, late: type[LateWriter]) -> None:
    """With `on_writer_error: "raise"` the start fails, and what had started before is closed."""
    (tmp_path / "mounted").mkdir()
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    cfg = cfg_in(tmp_path, writers=["late", "jsonl"], on_writer_error="raise")
    with pytest.raises(keepfast.WriterFailed, match="writer `jsonl` cannot start"):
        keepfast.Experiment(cfg, timesteps=10)
    assert (late.tries, late.closed) == (1, 1)


@pytest.mark.needs("tensorboardX")
@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_files_that_could_not_be_opened_are_made_later(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """csv and tensorboard, refused for the first steps, keep the values after, and the losses are told."""
    refused = True
    real = os.open

    def refusing(path: Any, *args: Any, **kwargs: Any) -> int:
        if refused and ("tfevents" in str(path) or str(path).endswith(".csv")):
            raise OSError(28, "No space left on device")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    cfg = cfg_in(tmp_path, writers=[name])
    with pytest.warns(keepfast.KeepfastWarning) as told, keepfast.Experiment(cfg, timesteps=100_000) as experiment:
        train(experiment, 0, 5)
        while experiment.writer.health[name].dropped < 5:
            time.sleep(0.01)
        refused = False
        time.sleep(0.5)
        train(experiment, 5, 10)
        experiment.writer.flush()
    values = keepfast.read_metrics(tmp_path / "run")["a"]
    assert values.steps.tolist() == [6, 7, 8, 9, 10]
    assert f"{name}: 5 calls were dropped because it could not start" in str(told[-1].message)


@pytest.mark.needs("tensorboardX")
def test_a_run_that_writes_nothing_leaves_no_files_of_metrics(tmp_path: Path) -> None:
    """Its writers begin with it, and take away at close what nothing came into."""
    with keepfast.Experiment(cfg_in(tmp_path, writers=["jsonl", "csv", "tensorboard"])) as experiment:
        assert len([path for path in experiment.directory.iterdir() if not path.name.startswith(".")]) == 4
    assert [path.name for path in experiment.directory.iterdir()] == ["config.json"]
