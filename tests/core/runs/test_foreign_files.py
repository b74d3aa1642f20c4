"""Files that lie in the directory of a run, by whomever: they point nowhere else, and nobody waits for them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast._system.commit import sweep
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import read_index
from keepfast.runs.reading import find_runs, read_run
from tests.hostile import read_all
from tests.hostile.events import EVENTS, event_file

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


def write_config(run: Path, experiment: Any) -> None:
    run.mkdir(parents=True, exist_ok=True)
    document = {"agent": "PPO", "timesteps": 10, "config": {"experiment": experiment}}
    (run / "config.json").write_text(json.dumps(document))


def test_a_configuration_points_to_no_other_file(tmp_path: Path) -> None:
    """A text in the place of the settings would be a path; it is none here, and the run has the settings of none."""
    (tmp_path / "other.toml").write_text('[experiment]\nbest_metric = "secret"\n')
    (tmp_path / "other.json").write_text('{"best_metric": "secret"}')
    default = keepfast.ExperimentConfig().best_metric
    for told in (
        str(tmp_path / "other.toml"),
        str(tmp_path / "other.json"),
        [1],
        7,
        None,
        {"best_metric": []},
        {"x": 1},
    ):
        write_config(tmp_path / "run", told)
        assert read_run(tmp_path / "run").best_metric == default


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN"])
def test_a_run_goes_on_beside_numbers_that_json_has_not(tmp_path: Path, number: str) -> None:
    """They are kept as text where the next start tells what it changed."""
    settings = {"directory": str(tmp_path), "experiment_name": "run", "writers": []}
    write_config(tmp_path / "run", {"keep_last": 1})
    told = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(told.replace('"keep_last": 1', f'"keep_last": {number}'))
    with keepfast.Experiment(settings, timesteps=3):
        pass
    changed = json.loads((tmp_path / "run" / "config.json").read_text())["starts"][-1]["changed"]
    assert changed["experiment.keep_last"] == [{"1e999": "Infinity"}.get(number, number), None]


@needs_pipes
@pytest.mark.parametrize("name", ["config.json", "checkpoints/index.json", "checkpoints/agent_5.pt", "metrics.jsonl"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    """Nobody may ever write into it; the run is read without."""
    run = tmp_path / "run"
    write_config(run, {})
    (run / "checkpoints").mkdir()
    (run / "metrics_old.jsonl").write_text('{"step": 3, "wall_time": 1.0, "scalars": {"a": 1.0}}\n')
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert find_runs(tmp_path) == [run]
    assert read_run(run).steps == 3


@needs_pipes
def test_litter_of_any_kind_ends_no_start(tmp_path: Path) -> None:
    """A pipe, a link, and names that only look like ours stay; what a killed save left goes."""
    os.mkfifo(tmp_path / ".a.pt.0123456789ab.keepfast-tmp")
    (tmp_path / "own").write_text("own")
    (tmp_path / ".b.pt.0123456789ab.keepfast-tmp").symlink_to(tmp_path / "own")
    for name in ("..keepfast-old", ".keepfast-old", "..keepfast-tmp", ".x.keepfast-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / "...keepfast-old").write_text("x")
    (tmp_path / ".c.pt.0123456789ab.keepfast-tmp").write_text("left")
    removed = sweep(tmp_path)
    assert tmp_path / ".c.pt.0123456789ab.keepfast-tmp" in removed
    assert (tmp_path / "own").read_text() == "own"
    assert (tmp_path / ".a.pt.0123456789ab.keepfast-tmp").exists()
    with keepfast.Experiment({"directory": str(tmp_path), "experiment_name": "x", "writers": []}):
        pass


@needs_pipes
def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path: Path, net: Callable[..., Any]) -> None:
    """The run goes on without that lock."""
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / ".checkpoints.lock")
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [], "checkpoint_interval": 5}
    with keepfast.Experiment(cfg, timesteps=5) as experiment:
        experiment.register(policy=net(1))
        for timestep in range(5):
            experiment.step(timestep)
    assert [found.timestep for found in CheckpointDirectory(tmp_path / "run" / "checkpoints").checkpoints()] == [5]


def test_only_what_has_our_seal_is_removed(tmp_path: Path, net: Callable[..., Any]) -> None:
    """Rows of an index that name somebody's own files, as retention would remove them, cost none of these."""
    cfg = {
        "directory": str(tmp_path), "experiment_name": "run", "writers": [], "checkpoint_interval": 5, "keep_last": 1,
    }  # fmt: skip
    with keepfast.Experiment(cfg, timesteps=5) as experiment:
        experiment.register(policy=net(1))
        for timestep in range(5):
            experiment.step(timestep)
    checkpoints = tmp_path / "run" / "checkpoints"
    own = {"notes_1.txt": b"notes", "data_2.pt": b"not ours", "data_3.safetensors": b"8" * 40, "data_4.pickle": b"x"}
    for name, content in own.items():
        (checkpoints / name).write_bytes(content)
    (genuine,) = read_index(checkpoints)
    rows = json.loads((checkpoints / "index.json").read_text())
    (row,) = rows["checkpoints"]
    for name in own:
        key, _, rest = name.partition("_")
        forged = {key: {"name": name, "size": 1, "digest": "crc32:00000000"}}
        rows["checkpoints"].insert(0, {**row, "timestep": int(rest.partition(".")[0]), "files": forged})
    (checkpoints / "index.json").write_text(json.dumps(rows))
    assert len(read_index(checkpoints)) == 5
    with keepfast.Experiment(cfg, timesteps=15) as experiment:
        experiment.register(policy=net(1))
        experiment.resume()
        for timestep in range(experiment.completed, 15):
            experiment.step(timestep)
    assert {name: (checkpoints / name).read_bytes() for name in own} == own
    assert not (checkpoints / next(iter(genuine.names))).exists()
    assert list(checkpoints.glob("agent_15.*"))


@linux
def test_no_file_of_metrics_ends_the_listing(tmp_path: Path) -> None:
    """Whatever it holds, it is one run's: lengths of 2**62, numbers without end, lines that are none."""
    for name, content in EVENTS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.out.tfevents.1").write_bytes(content)
    lines = {
        "deep": "[" * 100_000,
        "digits": '{"step": ' + "9" * 10_000 + "}",
        "nan": '{"step": NaN}',
        "zero": "\0" * 99,
    }
    for name, text in lines.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(text + "\n")
        (tmp_path / name / "metrics.csv").write_text(text + "\n")
        (tmp_path / name / "config.json").write_text(text)
        (tmp_path / name / "checkpoints").mkdir()
        (tmp_path / name / "checkpoints" / "index.json").write_text(text)
    runs = [tmp_path / name for name in (*EVENTS, *lines)]
    found = read_all([("runs", tmp_path), *(("run", run) for run in runs)])
    assert {path.name: what for path, what in found.items() if what != "value"} == {}


def test_values_are_whole(tmp_path: Path) -> None:
    """What a damaged record stands beside is read."""
    whole = b"\x10\x07\x2a\x0a\x0a\x08\x0a\x01a\x15" + np.float32(2.5).tobytes()
    (tmp_path / "events.out.tfevents.1").write_bytes(event_file(b"\x10" + b"\xff" * 50, whole))
    with pytest.warns(keepfast.KeepfastWarning, match="no events were passed over: 1"):
        (series,) = keepfast.read_metrics(tmp_path).values()
    assert (series.steps.tolist(), series.values.tolist()) == ([7], [2.5])
