"""MLflow and trackio, the real ones: each in a database of its own on this machine."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.testing import WriterContract

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what these libraries call

Kept = dict[str, list[tuple[int, float]]]
NAMES = ("mlflow", "trackio")


def require(name: str) -> None:
    pytest.importorskip(name)


@pytest.fixture(scope="session", autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Have both keep what they keep in a folder of this session; trackio asks for it when it is imported."""
    place = tmp_path_factory.mktemp("trackers")
    before = {name: os.environ.get(name) for name in ("TRACKIO_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY")}
    os.environ |= {
        "TRACKIO_DIR": str(place / "trackio"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    if importlib.util.find_spec("mlflow") is not None:
        from mlflow import MlflowClient

        MlflowClient().search_experiments()  # makes the database, and warns of what its own libraries think of it
    yield place
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def options(name: str, place: Path, experiment: str = "tests") -> dict[str, Any]:
    """Return the options of a writer, with which it writes nothing outside of a folder."""
    if name == "trackio":
        return {"project": experiment}
    return {"experiment": experiment, "artifact_location": (place / "mlflow files").as_uri()}


def factory_of(name: str, place: Path) -> Callable[[keepfast.WriterContext], keepfast.Writer]:
    require(name)
    if name == "mlflow":
        from keepfast_writers.mlflow import MlflowWriter

        return functools.partial(MlflowWriter, **options(name, place))
    from keepfast_writers.trackio import TrackioWriter

    return functools.partial(TrackioWriter, **options(name, place))


def runs_of_mlflow(directory: Path) -> list[Any]:
    """Return the runs that MLflow has of a run's directory."""
    from mlflow import MlflowClient

    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`keepfast.directory` = '{directory}'"))


def kept_by_mlflow(directory: Path) -> Kept:
    """Return the values of MLflow's one run by tag, without those that it tells to be void."""
    from mlflow import MlflowClient

    from keepfast_writers.mlflow import TAG_OF, void_spans

    (run,) = runs_of_mlflow(directory)
    tags, found = run.data.tags, {}
    for name in run.data.metrics:
        history = MlflowClient().get_metric_history(run.info.run_id, name)
        valid = [
            each
            for each in sorted(history, key=lambda metric: metric.step)
            if not any(each.step > step and each.timestamp <= until for step, until in void_spans(tags))
        ]
        found[tags.get(f"{TAG_OF}{name}", name)] = [(each.step, infinite(each.value)) for each in valid]
    return found


def infinite(value: float) -> float:
    """Return an infinity for the largest number there is, which MLflow's databases have in its place."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def rows_of_trackio(project: str, name: str) -> list[dict[str, Any]]:
    from trackio.sqlite_storage import SQLiteStorage

    return list(SQLiteStorage.get_logs(project, name))


def kept_by_trackio(name: str, project: str = "tests") -> Kept:
    """Return the values of trackio's run by tag, without those that its configuration tells to be void."""
    from trackio.sqlite_storage import SQLiteStorage

    from keepfast_writers.trackio import VOID

    void = (SQLiteStorage.get_run_config(project, name) or {}).get(VOID, [])
    found: Kept = {}
    for row in rows_of_trackio(project, name):
        step, at = row.pop("step"), datetime.fromisoformat(row.pop("timestamp"))
        if any(step > beyond and at <= datetime.fromisoformat(until) for beyond, until in void):
            continue
        for tag, value in row.items():
            if isinstance(value, int | float | str):
                found.setdefault(tag, []).append((step, float(value)))
    return {tag: sorted(points, key=lambda point: point[0]) for tag, points in found.items()}


class TestMlflowWriter(WriterContract):
    precision = 0.0

    @pytest.fixture
    def factory(self, places: Path) -> Callable[[keepfast.WriterContext], keepfast.Writer]:
        return factory_of("mlflow", places)

    def kept(self, directory: Path) -> Kept:
        return kept_by_mlflow(directory)


class TestTrackioWriter(WriterContract):
    precision = 0.0

    @pytest.fixture
    def factory(self, places: Path) -> Callable[[keepfast.WriterContext], keepfast.Writer]:
        return factory_of("trackio", places)

    @pytest.fixture
    def context(self, tmp_path: Path) -> keepfast.WriterContext:
        """Return the context of a new run, whose name no other test has: trackio keeps runs by it."""
        directory = tmp_path / tmp_path.name
        directory.mkdir()
        return keepfast.WriterContext(directory, directory.name, {"experiment": {"write_interval": 10}, "lr": 1e-3})

    def kept(self, directory: Path) -> Kept:
        return kept_by_trackio(directory.name)


def kinds_kept(name: str, directory: Path) -> set[str]:
    """Return which kinds of values but scalars a tracker has of a run."""
    if name == "trackio":
        values = [value for row in rows_of_trackio("kinds", directory.name) for value in row.values()]
        return {value["_type"] for value in values if isinstance(value, dict)}
    from mlflow import MlflowClient

    (run,) = runs_of_mlflow(directory)
    return {each.path for each in MlflowClient().list_artifacts(run.info.run_id)}


KINDS = {
    "mlflow": {"histograms", "images", "texts", "videos", "figures", "model"},
    "trackio": {"trackio.histogram", "trackio.image", "trackio.markdown", "trackio.video"},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_value_is_kept(name: str, places: Path, tmp_path: Path) -> None:
    """Histograms, images, texts, figures, videos, hyperparameters and files arrive, and nothing is told to be lost."""
    from matplotlib.figure import Figure

    directory = tmp_path / tmp_path.name
    directory.mkdir()
    (tmp_path / "policy.pt").write_text("weights")
    context = keepfast.WriterContext(directory, directory.name, {"lr": 0.25, "net": {"layers": [64, 64]}})
    require(name)
    factory = factory_of(name, places)
    with warnings.catch_warnings():
        warnings.simplefilter("error", keepfast.KeepfastWarning)
        with factory.func(context, **options(name, places, "kinds")) as writer:  # type: ignore[attr-defined]
            writer.add_histogram("a (b)", np.arange(10.0), 1)
            writer.add_image("image", np.zeros((3, 4, 6), np.uint8), 1)
            writer.add_image("batch", np.zeros((2, 1, 4, 6)), 1, dataformats="NCHW")
            writer.add_text("text", "# Größe", 1)
            writer.add_figure("figure", Figure(), 1, close=False)
            writer.add_video("video", np.zeros((1, 2, 3, 4, 6), np.uint8), 1)
            writer.add_hparams({"depth": 3}, {"score": 2.0}, global_step=1)
            writer.write_artifact(tmp_path / "policy.pt", 1, 1.0, name="policy", kind="model")
    assert kinds_kept(name, directory) == KINDS[name]
    configuration, metrics = settings_kept(name, directory)
    assert (configuration["depth"], configuration["lr"]) in (("3", "0.25"), (3, 0.25))
    assert metrics["score"] == [(1, 2.0)]


def settings_kept(name: str, directory: Path) -> tuple[dict[str, Any], Kept]:
    if name == "mlflow":
        (run,) = runs_of_mlflow(directory)
        return dict(run.data.params), kept_by_mlflow(directory)
    from trackio.sqlite_storage import SQLiteStorage

    return dict(SQLiteStorage.get_run_config("kinds", directory.name) or {}), kept_by_trackio(directory.name, "kinds")


PROGRAM = """
import os, signal, sys
import numpy as np
import keepfast

name, directory, how, options = sys.argv[1], sys.argv[2], sys.argv[3], eval(sys.argv[4])
cfg = {
    "experiment": {
        "directory": directory, "experiment_name": "the run", "write_interval": 5, "checkpoint_interval": 20,
        "best_metric": "score", "writers": [{"name": name, **options}],
    },
    "lr": 0.5,
}
with keepfast.Experiment(cfg, name="PPO", timesteps=60) as experiment:
    experiment.register(net=np.zeros(3))
    start = experiment.resume()
    for timestep in range(start, 60):
        experiment.track_data("score", float(timestep))
        experiment.step(timestep)
        if how == "kill" and timestep == 47:
            experiment.wait()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def run(name: str, directory: Path, how: str, given: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), name, str(directory), how, repr(given)]
    return subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_goes_on_as_the_same_one_and_keeps_its_best(name: str, places: Path, tmp_path: Path) -> None:
    """One run holds the values of both starts, once each but for what is void, and the best checkpoint alone."""
    require(name)
    given = options(name, places, f"resume{tmp_path.name}")
    killed = run(name, tmp_path, "kill", given)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = run(name, tmp_path, "", given)
    assert finished.returncode == 0, finished.stderr
    directory = tmp_path / "the run"
    expected = [(step, float(step) - 3.0) for step in range(5, 61, 5)]
    kept = kept_by_mlflow(directory) if name == "mlflow" else kept_by_trackio("the run", given["project"])
    assert kept["score"] == expected
    (best,) = (directory / "checkpoints").glob("best_agent.*")
    assert best_of(name, directory, given, tmp_path / "from there") == best.read_bytes()
    assert not (directory / ".artifacts").exists()


def best_of(name: str, directory: Path, given: dict[str, Any], place: Path) -> bytes:
    """Return the one checkpoint that a tracker has, and check that there is no other."""
    place.mkdir()
    if name == "mlflow":
        from mlflow import MlflowClient

        (found,) = runs_of_mlflow(directory)
        client = MlflowClient()
        assert [each.path for each in client.list_artifacts(found.info.run_id, "checkpoint")] == [
            "checkpoint/best_agent"
        ]
        (file,) = client.list_artifacts(found.info.run_id, "checkpoint/best_agent")
        return Path(client.download_artifacts(found.info.run_id, file.path, str(place))).read_bytes()
    import trackio

    with contextlib.closing(sqlite3.connect(database_of(given["project"]))) as database:
        assert {row[0] for row in database.execute("SELECT DISTINCT name FROM artifacts")} == {"best_agent"}
    reader = trackio.init(given["project"], name="reader", embed=False, auto_log_cpu=False, auto_log_gpu=False)
    folder = Path(reader.use_artifact("best_agent:latest").download(str(place)))
    trackio.finish()
    (path,) = (each for each in folder.rglob("*") if each.is_file())
    return path.read_bytes()


def database_of(project: str) -> Path:
    from trackio.sqlite_storage import SQLiteStorage

    return Path(SQLiteStorage.get_project_db_path(project))


@pytest.mark.parametrize(("choice", "count"), [("best", 1), ("checkpoints", 4), ("none", 0)])
def test_an_entry_of_the_writers_says_which_files_it_gets(
    choice: str, count: int, places: Path, tmp_path: Path
) -> None:
    """Its own `artifacts` wins over the setting; retention takes nothing away from a writer that is still at it."""
    require("mlflow")
    entry = {"name": "mlflow", "artifacts": choice, **options("mlflow", places, f"choice{tmp_path.name}")}
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [entry], "artifacts": "all"}
    cfg |= {"checkpoint_interval": 10, "keep_last": 1, "write_interval": 10, "best_metric": "score"}
    with keepfast.Experiment(cfg, name="PPO", timesteps=30) as experiment:
        experiment.register(net=np.zeros(3))
        for timestep in range(30):
            experiment.track_data("score", float(timestep))
            experiment.step(timestep)
    from mlflow import MlflowClient

    (found,) = runs_of_mlflow(tmp_path / "run")
    client = MlflowClient()
    folders = [each.path for each in client.list_artifacts(found.info.run_id, "checkpoint")]
    assert sum(len(client.list_artifacts(found.info.run_id, folder)) for folder in folders) == count


def test_a_server_that_is_gone_stops_nothing(places: Path, tmp_path: Path) -> None:
    """MLflow's files cannot be written: it is told, every checkpoint and value is on this disk, and training ends."""
    require("mlflow")
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, where a folder should be")
    given = {"experiment": f"gone{tmp_path.name}", "artifact_location": (blocked / "files").as_uri()}
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl", {"name": "mlflow", **given}]}
    cfg |= {"checkpoint_interval": 10, "write_interval": 10, "best_metric": "score"}
    with (
        pytest.warns(keepfast.KeepfastWarning) as told,
        keepfast.Experiment(cfg, name="PPO", timesteps=30) as experiment,
    ):
        experiment.register(net=np.zeros(3))
        for timestep in range(30):
            experiment.track_data("score", float(timestep))
            experiment.step(timestep)
    assert any("mlflow: " in str(each.message) and "failed" in str(each.message) for each in told)
    assert len(list((tmp_path / "run" / "checkpoints").glob("*agent*"))) == 4
    assert list(keepfast.read_metrics(tmp_path / "run")["score"].steps) == [10, 20, 30]
    assert kept_by_mlflow(tmp_path / "run")["score"] == [(10, 4.5), (20, 14.5), (30, 24.5)]
    assert not (tmp_path / "run" / ".artifacts").exists()


def test_exported_memories_reach_a_tracker_that_asks_for_all(places: Path, tmp_path: Path) -> None:
    """With `"artifacts": "all"` each file of a registered memory arrives beside the checkpoints."""
    require("mlflow")
    torch = pytest.importorskip("torch")
    import keepfast_torch

    entry = {"name": "mlflow", **options("mlflow", places, f"all{tmp_path.name}")}
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [entry], "artifacts": "all"}
    cfg |= {"checkpoint_interval": 0, "write_interval": 4}
    memory = keepfast_torch.RandomMemory(4, 1, export=True, export_directory=tmp_path / "memory")
    memory.create_tensor("states", size=2, dtype=torch.float32)
    with keepfast.Experiment(cfg, name="PPO", timesteps=8) as experiment:
        experiment.register(memory=memory)
        for timestep in range(8):
            experiment.track_data("score", float(timestep))
            experiment.step(timestep)
            memory.add_samples(states=torch.zeros(1, 2))
        memory.close()
    from mlflow import MlflowClient

    (found,) = runs_of_mlflow(tmp_path / "run")
    files = MlflowClient().list_artifacts(found.info.run_id, "memory/memory")
    assert sorted(Path(each.path).name for each in files) == sorted(
        path.name for path in (tmp_path / "memory").iterdir()
    )
    assert len(files) == 2
