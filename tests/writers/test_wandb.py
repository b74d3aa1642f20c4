"""Weights & Biases, the real one, offline."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import pydantic
import pytest

import keepfast
from keepfast_writers.wandb import _config_of

pytest.importorskip("wandb")
pytestmark = pytest.mark.needs("wandb")


HEADER, BLOCK, FRAGMENT = 7, 32768, 7


def read_run(directory: Path) -> list[Any]:
    """Return the records of the one offline run in a directory, as wandb's own protocol buffers.

    wandb keeps them in the log format of LevelDB: a header of seven bytes, then blocks of 32 KiB with fragments of a
    checksum (4 bytes), a length (2), a kind (1: whole, 2: first, 3: middle, 4: last) and the data.
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = directory.glob("*.wandb")
    return [wandb_internal_pb2.Record.FromString(data) for data in _records(path.read_bytes())]


def _records(content: bytes) -> Iterator[bytes]:
    position, parts = HEADER, b""
    while position + FRAGMENT <= len(content):
        room = BLOCK - position % BLOCK
        if room < FRAGMENT:
            position += room
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        parts += content[position + FRAGMENT : position + FRAGMENT + length]
        position += FRAGMENT + length
        if kind in (1, 4):
            yield parts
            parts = b""


def history(records: list[Any]) -> list[dict[str, str]]:
    """Return the logged values, each row's as JSON by key."""
    rows = [record.history for record in records if record.WhichOneof("record_type") == "history"]
    return [{item.key or ".".join(item.nested_key): item.value_json for item in row.item} for row in rows]


def run_offline(directory: Path, script: str) -> str:
    """Run a script with wandb offline, in a process of its own, since wandb completes its files at the end of one."""
    preamble = f"""
        import pathlib, time, keepfast
        directory = pathlib.Path({str(directory)!r})
        directory.mkdir(exist_ok=True)
    """
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(directory)}
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(preamble) + textwrap.dedent(script)],
        env=environment,
        cwd=directory.parent,
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    return finished.stdout


def runs(directory: Path) -> list[list[Any]]:
    """Return the records of each offline run below a directory, the oldest first."""
    return [read_run(path) for path in sorted((directory / "wandb").glob("offline-run*"))]


def started(records: list[Any]) -> Any:
    return next(record.run for record in records if record.WhichOneof("record_type") == "run")


def logged(records: list[Any], tag: str, axis: str) -> list[tuple[int, float]]:
    rows = [row for row in history(records) if tag in row]
    return [(int(float(row[axis])), float(json.loads(row[tag]))) for row in rows]


def artifacts_of(records: list[Any]) -> list[Any]:
    """Return the artifacts of a run, in the order that they were logged in."""
    asked = [record.request.log_artifact.artifact for record in records if record.request.HasField("log_artifact")]
    return asked + [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]


@pytest.mark.slow
@pytest.mark.parametrize("used", [False, True])
def test_a_run_that_goes_on_as_the_last_leaves_no_other(tmp_path: Path, used: bool) -> None:
    """The run that began with the start is removed, unless somebody logged to it."""
    run_offline(
        tmp_path / "out",
        f"""
        import numpy as np, wandb
        cfg = {{"directory": str(directory), "writers": [], "wandb": True, "checkpoint_interval": 5}}
        for used in (False, {used}):
            with keepfast.Experiment(cfg, name="PPO", timesteps=20) as experiment:
                experiment.register(net=np.zeros(3))
                if used:
                    wandb.log({{"mine": 1.0}})
                begin = experiment.resume("last")
                for timestep in range(begin, begin + 10):
                    experiment.track_data("a", float(timestep))
                    experiment.step(timestep)
        assert begin == 10
        """,
    )
    begun = Counter(started(records).run_id for records in runs(tmp_path / "out"))
    assert sorted(begun.values()) == ([1, 2] if used else [2])
    assert (tmp_path / "out" / "wandb" / "latest-run").exists()


@pytest.mark.slow
@pytest.mark.needs("tensorboard")
def test_curves_arrive_through_the_event_files(tmp_path: Path) -> None:
    """With `wandb: True` alone, wandb follows the event files; name and configuration are those of the experiment."""
    run_offline(
        tmp_path / "out",
        """
        cfg = {
            "experiment": {
                "directory": str(directory), "experiment_name": "my run", "write_interval": 10,
                "checkpoint_interval": 0, "wandb": True,
                "wandb_kwargs": {"project": "p", "config": {"own": 1, "lr": 5.0}},
            },
            "lr": 0.25,
        }
        with keepfast.Experiment(cfg, name="PPO", timesteps=40) as experiment:
            for timestep in range(40):
                experiment.track_data("Loss / Policy loss", float(timestep // 10))
                experiment.step(timestep)
        """,
    )
    (records,) = runs(tmp_path / "out")
    run = started(records)
    assert (run.display_name, run.project) == ("my run", "p")
    config = {item.key: item.value_json for item in run.config.update}
    assert (config["own"], config["lr"]) == ("1", "0.25")
    assert json.loads(config["experiment"])["write_interval"] == 10
    assert logged(records, "Loss / Policy loss", "global_step") == [(10, 0.0), (20, 1.0), (30, 2.0), (40, 3.0)]


@pytest.mark.slow
def test_without_sync_every_value_is_logged_over_timesteps(tmp_path: Path) -> None:
    """Without sync_tensorboard the writer logs by itself, over its own axis: a step that goes back drops nothing."""
    run_offline(
        tmp_path / "out",
        """
        import numpy as np
        from keepfast_writers.wandb import STEP, WandbWriter
        context = keepfast.WriterContext(directory, "run")
        with WandbWriter(context, sync_tensorboard=False) as writer:
            for step in (10, 20, 5, 30):
                writer.write_scalars({"Reward / Total reward (max)": step / 2}, step, time.time())
            writer.add_histogram("histogram", np.arange(10.0), 30)
            writer.add_image("image", np.zeros((3, 4, 6), np.uint8), 30)
            writer.add_image("gray", np.zeros((4, 6)), 30, dataformats="HW")
            writer.add_text("text", "<b>Größe</b>", 30)
            writer.add_video("video", np.zeros((1, 2, 3, 4, 6), np.uint8), 30)
            writer.add_hparams({"layers": [64, 64]}, {"score": 3.0})
        writer.close()
        """,
    )
    (records,) = runs(tmp_path / "out")
    assert logged(records, "Reward / Total reward (max)", "timestep") == [(10, 5.0), (20, 10.0), (5, 2.5), (30, 15.0)]
    metrics = [record.metric for record in records if record.WhichOneof("record_type") == "metric"]
    assert ("*", "timestep") in [(metric.glob_name, metric.step_metric) for metric in metrics]
    kinds = {key: value for row in history(records) for key, value in row.items()}
    assert kinds["histogram._type"] == '"histogram"'
    assert (kinds["image.width"], kinds["image.height"]) == ("6", "4")
    assert kinds["video._type"] == '"video-file"'
    assert kinds["text._type"] == '"html-file"'
    config = [record.config for record in records if record.WhichOneof("record_type") == "config"]
    assert [(item.key, item.value_json) for one in config for item in one.update] == [("layers", "[64,64]")]


@pytest.mark.slow
def test_the_best_checkpoint_becomes_an_artifact(tmp_path: Path) -> None:
    """Each that was the best is a version of one artifact, and no other checkpoint goes there unless asked for."""
    run_offline(
        tmp_path / "out",
        """
        import numpy as np
        cfg = {"directory": str(directory), "experiment_name": "run", "checkpoint_interval": 10, "write_interval": 10}
        cfg |= {"writers": [], "wandb": True, "best_metric": "score"}
        with keepfast.Experiment(cfg, name="PPO", timesteps=20) as experiment:
            experiment.register(net=np.zeros(3))
            for timestep in range(20):
                experiment.track_data("score", float(timestep))
                experiment.step(timestep)
        """,
    )
    (records,) = runs(tmp_path / "out")
    assert [(one.name, one.type, json.loads(one.metadata)["timestep"]) for one in artifacts_of(records)] == [
        ("best_agent", "checkpoint", 10),
        ("best_agent", "checkpoint", 20),
    ]


@pytest.mark.slow
@pytest.mark.needs("tensorboard")
def test_a_file_of_the_run_becomes_an_artifact(tmp_path: Path) -> None:
    """Each of one name is a version, with its timestep and what the file held at the call; a directory is taken whole.

    Writers that keep no files are told of once, and a file that is not there is that writer's failure.
    """
    printed = run_offline(
        tmp_path / "out",
        """
        import warnings
        cfg = {"directory": str(directory), "experiment_name": "run", "checkpoint_interval": 0, "wandb": True}
        with warnings.catch_warnings(record=True) as told, keepfast.Experiment(cfg, name="PPO") as experiment:
            warnings.simplefilter("always", keepfast.KeepfastWarning)
            path = directory / "run" / "policy.pt"
            for step in (10, 20):
                path.write_text(f"weights of {step}")
                experiment.writer.write_artifact(path, step, time.time(), name="the policy", kind="model")
                experiment.writer.flush()
            path.unlink()
            experiment.writer.write_artifact(directory / "run", 20, time.time(), name="run", kind="directory")
            experiment.writer.write_artifact(path, 30, time.time(), name="gone", kind="model")
            experiment.writer.flush()
        for warning in told:
            print(" ".join(str(warning.message).split()))
        """,
    )
    assert printed.count("TensorBoardWriter does not keep artifacts") == 1
    assert printed.count("writer `wandb` failed: ValueError: Path is not a file") == 1
    (records,) = runs(tmp_path / "out")
    artifacts = artifacts_of(records)
    assert [(one.name, one.type, json.loads(one.metadata)["timestep"]) for one in artifacts] == [
        ("the-policy", "model", 10),
        ("the-policy", "model", 20),
        ("run", "directory", 20),
    ]
    sizes = [sorted(entry.size for entry in one.manifest.contents) for one in artifacts[:2]]
    assert sizes == [[13], [13]]
    assert len({entry.digest for one in artifacts[:2] for entry in one.manifest.contents}) == 2


@pytest.mark.slow
def test_a_resumed_run_goes_on_under_its_id(tmp_path: Path) -> None:
    """The run's id travels with checkpoints, and the run that goes on from one is the same run to wandb."""
    script = """
        import numpy as np
        cfg = {"directory": str(directory), "experiment_name": "run", "write_interval": 10, "checkpoint_interval": 20,
               "checkpoint_format": "safetensors", "writers": ["jsonl"], "wandb": True}
        writer_state = {}
        from keepfast.runs.recorder import Recorder
        recorder = Recorder(keepfast.ExperimentConfig(cfg), directory, {"experiment": cfg})
        state_file = directory / "state.json"
        if state_file.exists():
            recorder.resume(keepfast.codec.loads(state_file.read_text()), 20)
        recorder.track("Loss / Policy loss", 1.0)
        recorder.write(10 if not state_file.exists() else 30)
        state_file.write_text(keepfast.codec.dumps(recorder.state_dict()))
        recorder.close()
    """
    run_offline(tmp_path / "out", script)
    run_offline(tmp_path / "out", script)
    first, second = map(started, runs(tmp_path / "out"))
    assert first.run_id == second.run_id
    assert first.run_id


@pytest.mark.slow
@pytest.mark.parametrize("interval", [10, 0])
def test_the_run_is_there_right_after_the_start(tmp_path: Path, interval: int) -> None:
    """`wandb.run` is there after `agent.init()`, also without a write interval, and takes what the user logs."""
    printed = run_offline(
        tmp_path / "out",
        f"""
        import wandb
        cfg = {{"experiment": {{"directory": str(directory), "experiment_name": "run", "write_interval": {interval},
                              "checkpoint_interval": 0, "writers": ["jsonl"], "wandb": True}}}}
        agent = keepfast.Agent(cfg=cfg)
        assert wandb.run is None
        agent.init({{"timesteps": 40}})
        print(wandb.run.name)
        wandb.log({{"mine": 3.0, "timestep": 1}})
        agent.close()
        assert wandb.run is None
        """,
    )
    (records,) = runs(tmp_path / "out")
    assert printed.split() == ["run"]
    assert logged(records, "mine", "timestep") == [(1, 3.0)]


@pytest.mark.slow
def test_a_wandb_that_could_not_start_is_tried_again(tmp_path: Path) -> None:
    """A service that is away at first is asked again by later writes, behind training."""
    run_offline(
        tmp_path / "out",
        """
        import wandb, warnings
        warnings.simplefilter("ignore")
        cfg = {"directory": str(directory), "experiment_name": "run", "write_interval": 1, "writers": ["jsonl"],
               "checkpoint_interval": 0, "wandb": True}
        real, failures = wandb.init, []
        def init(**arguments):
            if len(failures) < 2:
                failures.append(1)
                raise ConnectionError("no network")
            return real(**arguments)
        wandb.init = init
        with keepfast.Experiment(cfg, name="PPO", timesteps=50) as experiment:
            for timestep in range(50):
                experiment.track_data("a", float(timestep))
                experiment.step(timestep)
                time.sleep(0.02)
            experiment.writer.flush()
        """,
    )
    (records,) = runs(tmp_path / "out")
    assert logged(records, "a", "timestep")[-1] == (50, 49.0)


@pytest.mark.slow
def test_a_wandb_that_fails_does_not_stop_training(tmp_path: Path) -> None:
    """When wandb cannot start, that is told once with its cause, and the run and its other writers go on."""
    printed = run_offline(
        tmp_path / "out",
        """
        import warnings
        cfg = {"directory": str(directory), "experiment_name": "run", "write_interval": 1, "writers": ["jsonl"],
               "checkpoint_interval": 0, "wandb": True,
                "wandb_kwargs": {"mode": "no such mode"}}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", keepfast.KeepfastWarning)
            with keepfast.Experiment(cfg, name="PPO", timesteps=5) as experiment:
                for timestep in range(5):
                    experiment.track_data("a", float(timestep))
                    experiment.step(timestep)
        for warning in told:
            if issubclass(warning.category, keepfast.KeepfastWarning):
                print(" ".join(str(warning.message).split()))
        """,
    )
    assert printed.count("writer `wandb` cannot start") == 1
    assert "wandb: 5 calls were dropped because it could not start" in printed
    assert keepfast.read_metrics(tmp_path / "out" / "run")["a"].values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@final
@dataclass
class Net:
    width: int


@final
@dataclass
class Settings:
    seed: int
    net: Net


class Model(pydantic.BaseModel):
    seed: int
    net: dict[str, int]


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 7, "net": {"width": 64}},
        MappingProxyType({"seed": 7, "net": {"width": 64}}),
        argparse.Namespace(seed=7, net={"width": 64}),
        Settings(7, Net(64)),
        Model(seed=7, net={"width": 64}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_configuration_may_have_any_form(given: Any) -> None:
    """Mappings, namespaces, dataclasses and pydantic models are taken with all they hold."""
    assert _config_of(given) == {"seed": 7, "net": {"width": 64}}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # wandb leaves the file open
def test_a_configuration_may_be_a_file(tmp_path: Path) -> None:
    """A string is the path of a YAML file, as for `wandb.init`."""
    (tmp_path / "config.yaml").write_text("seed: {value: 7}\n")
    assert _config_of(str(tmp_path / "config.yaml")) == {"seed": 7}


@pytest.mark.parametrize("given", [3, ["seed"]])
def test_a_configuration_that_cannot_be_taken_is_told(given: Any) -> None:
    """What is no configuration is left out with a warning that names it and what is allowed."""
    with pytest.warns(
        keepfast.KeepfastWarning, match=rf"is {re.escape(repr(given))}, a .* left out; allowed: a mapping"
    ):
        assert _config_of(given) == {}


@pytest.mark.slow
def test_a_namespace_reaches_the_run(tmp_path: Path) -> None:
    """What argparse returns is in the run with the settings of agent, trainer and models, all on one level."""
    printed = run_offline(
        tmp_path / "out",
        """
        import argparse
        from keepfast_writers.wandb import WandbWriter
        config = {"lr": 0.5, "models": {"policy": {"width": 64}}, "trainer": {"timesteps": 9}}
        context = keepfast.WriterContext(directory, "run", config)
        with WandbWriter(context, sync_tensorboard=False, config=argparse.Namespace(seed=7)) as writer:
            print(dict(writer.run.config))
        """,
    )
    assert printed.splitlines()[-1] == "{'seed': 7, 'lr': 0.5, 'timesteps': 9, 'policy': {'width': 64}}"


@pytest.mark.slow
@pytest.mark.needs("tensorboard")
def test_event_files_of_others_are_theirs_once_the_run_has_ended(tmp_path: Path) -> None:
    """What wandb changed in TensorBoard's writers, to follow event files, is undone with the run."""
    printed = run_offline(
        tmp_path / "out",
        """
        import wandb
        from keepfast_writers.wandb import WandbWriter
        context = keepfast.WriterContext(directory, "run", {})
        with WandbWriter(context, sync_tensorboard=True):
            print("followed", bool(wandb.patched["tensorboard"]))
        print("followed", bool(wandb.patched["tensorboard"]))
        """,
    )
    assert printed.splitlines()[-2:] == ["followed True", "followed False"]


@pytest.mark.slow
def test_a_run_of_the_users_own_goes_on(tmp_path: Path) -> None:
    """Who began a run before the experiment logs to it afterwards; the writer ended none but its own."""
    printed = run_offline(
        tmp_path / "out",
        """
        import wandb
        from keepfast_writers.wandb import WandbWriter
        context = keepfast.WriterContext(directory, "run", {})
        with WandbWriter(context, sync_tensorboard=False):
            pass
        print("ended", wandb.run is None)
        own = wandb.init()
        with WandbWriter(context, sync_tensorboard=False) as writer:
            print("same", writer.run is own)
        own.log({"later": 1.0})
        print("ended", wandb.run is None)
        """,
    )
    assert printed.splitlines()[-3:] == ["ended True", "same True", "ended False"]


def test_without_the_tensorboard_package_it_is_asked_for(
    context: keepfast.WriterContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where wandb is told to follow event files and cannot read them, the error says what to install."""
    from keepfast_writers import wandb as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(keepfast.MissingDependency, match="pip install tensorboard"):
        module.WandbWriter(context, sync_tensorboard=True)
    with pytest.warns(keepfast.KeepfastWarning, match="pip install tensorboard.*logged one by one"):
        assert module._follows_event_files(context, {}) == (False, False)


@pytest.mark.needs("tensorboard")
@pytest.mark.parametrize(
    ("writers", "given", "told", "follows"),
    [
        (["tensorboard"], {}, True, True),
        ([{"name": "tensorboard"}, "jsonl"], {}, True, True),
        (["jsonl"], {}, True, False),
        (["jsonl"], {"sync_tensorboard": True}, True, True),
        (["tensorboard"], {"sync_tensorboard": False}, False, False),
    ],
)
def test_event_files_are_followed_where_there_are_some(
    context: keepfast.WriterContext, writers: list[Any], given: dict[str, bool], told: bool, follows: bool
) -> None:
    """By default wandb is told to follow event files, and values are logged one by one where the run writes none."""
    from keepfast_writers.wandb import _follows_event_files

    own = keepfast.WriterContext(context.directory, "run", {"experiment": {"writers": writers}})
    assert _follows_event_files(own, given) == (told, follows)
