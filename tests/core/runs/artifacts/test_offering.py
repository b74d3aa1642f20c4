"""Which files go to writers that keep files, and what becomes of them while such a writer is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.runs.artifacts.offering import WAITING


class KeepingWriter(keepfast.Writer):
    """Keeps the bytes of each file that it gets, once its gate is open."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        self.kept: list[tuple[str, str, int, Any]] = []
        self.error: Exception | None = None

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        pass

    def write_artifact(self, path: Path, step: int, wall_time: float, *, name: str, kind: str) -> None:
        self.entered.set()
        self.gate.wait(60)
        if self.error is not None:
            raise self.error
        self.kept.append((name, kind, step, keepfast.read_checkpoint(path)["net"]))


@pytest.fixture
def writer() -> Iterator[KeepingWriter]:
    """Return a writer that a plugin provides as `keeping`."""
    made = KeepingWriter()

    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., keepfast.Writer]]:
        return {"keeping": lambda context: made}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "keeping")
    yield made
    made.gate.set()
    keepfast.plugins.registry().unregister(plugin)


def settings(directory: Path, **more: Any) -> dict[str, Any]:
    return {
        "directory": str(directory), "experiment_name": "run", "writers": ["keeping"], "write_interval": 10,
        "checkpoint_interval": 10, "keep_last": 1, "best_metric": "score", **more,
    }  # fmt: skip


def trained(cfg: Mapping[str, Any], timesteps: int = 30, up_to: int | None = None) -> keepfast.Experiment:
    """Return an experiment whose one module is the timestep that it was taken at, and whose score grows."""
    experiment = keepfast.Experiment(cfg, name="PPO", timesteps=timesteps)
    net = np.zeros(1)
    experiment.register(net=net)
    for timestep in range(up_to or timesteps):
        net[:] = timestep + 1
        experiment.track_data("score", float(timestep))
        experiment.step(timestep)
    return experiment


def test_a_writer_that_is_at_work_loses_nothing_and_holds_up_nothing(writer: KeepingWriter, tmp_path: Path) -> None:
    """Each file is what it was when it was durable, though retention removed it, or a better one took its name."""
    experiment = trained(settings(tmp_path, artifacts="checkpoints"))
    assert writer.entered.wait(30)
    assert experiment.completed == 30
    assert writer.kept == []
    writer.gate.set()
    experiment.close()
    assert sorted((name, step, float(net[0])) for name, _, step, net in writer.kept) == [
        *(("agent", step, float(step)) for step in (10, 20, 30)),
        *(("best_agent", step, float(step)) for step in (10, 20, 30)),
    ]
    assert {kind for _, kind, _, _ in writer.kept} == {"checkpoint"}
    assert not (tmp_path / "run" / WAITING).exists()


@pytest.mark.parametrize(
    ("setting", "entry", "expected"),
    [
        ({}, {}, {"best_agent"}),
        ({"artifacts": "none"}, {}, set()),
        ({"artifacts": "none"}, {"artifacts": "best"}, {"best_agent"}),
        ({"artifacts": "all"}, {"artifacts": "checkpoints"}, {"best_agent", "agent"}),
        ({"artifacts": "all"}, {"artifacts": "none"}, set()),
    ],
)
def test_a_setting_says_which_files_and_the_entry_of_a_writer_wins(
    setting: dict[str, str], entry: dict[str, str], expected: set[str], writer: KeepingWriter, tmp_path: Path
) -> None:
    """The best alone, unless somebody says otherwise."""
    writer.gate.set()
    trained(settings(tmp_path, **setting, writers=[{"name": "keeping", **entry}])).close()
    assert {name for name, *_ in writer.kept} == expected


def test_a_wrong_word_in_the_entry_of_a_writer_is_told(tmp_path: Path) -> None:
    """It names the writer, what was given, and what is allowed."""
    cfg = settings(tmp_path, writers=[{"name": "jsonl", "artifacts": "some"}])
    with pytest.raises(keepfast.ConfigError, match="`artifacts` of the writer `jsonl` is 'some'; allowed: \"best\""):
        keepfast.Experiment(cfg)


def test_a_refused_file_is_told_and_stops_nothing(writer: KeepingWriter, tmp_path: Path) -> None:
    """The failure is counted as the writer's, and the checkpoints are where they were."""
    writer.error = OSError("no such bucket")
    writer.gate.set()
    with pytest.warns(keepfast.KeepfastWarning) as told:
        experiment = trained(settings(tmp_path))
        experiment.close()
    assert any("keeping: 3 of" in str(each.message) and "no such bucket" in str(each.message) for each in told)
    assert experiment.writer.health["keeping"].failed == 3
    assert list((tmp_path / "run" / "checkpoints").glob("best_agent.*"))
    assert not (tmp_path / "run" / WAITING).exists()


def test_a_refused_file_is_raised_where_failures_are_errors(writer: KeepingWriter, tmp_path: Path) -> None:
    """By the next call that reaches the writer, as any failure behind training."""
    writer.error = OSError("no such bucket")
    writer.gate.set()
    with pytest.raises(keepfast.WriterFailed, match="no such bucket"):
        trained(settings(tmp_path, on_writer_error="raise", async_checkpoints=False)).close()


def test_what_a_killed_run_left_waiting_is_swept_up(writer: KeepingWriter, tmp_path: Path) -> None:
    """A second name of a file that nobody will take any more goes with the next file that waits."""
    left = tmp_path / "run" / WAITING / "7"
    left.mkdir(parents=True)
    (left / "best_agent.pt").write_bytes(b"of before")
    writer.gate.set()
    trained(settings(tmp_path)).close()
    assert not left.exists()
