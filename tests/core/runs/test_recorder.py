"""When a run starts its writers, and what it does about those that cannot start."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import keepfast


class RefusedWriter(keepfast.Writer):
    """Finds no place to write in."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        raise OSError(28, "No space left on device")

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        raise AssertionError("never made")


class StatefulWriter(keepfast.Writer):
    """Tells what it was made with."""

    made_with: list[Mapping[str, Any]] = []  # noqa: RUF012  (what tests look at)

    def __init__(self, context: keepfast.WriterContext) -> None:
        self.made_with.append(context.resume_state)

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"id": "abc"}


class DuckWriter:
    """Has what a writer has, and is none."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        pass

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        raise AssertionError("never called")


class ExitingWriter(RefusedWriter):
    """Ends the program at its start."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        raise SystemExit("not logged in")


class UnstorableWriter(StatefulWriter):
    """Has a state that no file can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"file": object()}


class FailingWriter(keepfast.Writer):
    """Fails at each value and at its end."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        pass

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        raise OSError("disk gone")

    def close(self) -> None:
        raise OSError("not closed either")


def nothing(context: keepfast.WriterContext) -> None:
    """Makes no writer."""


@pytest.fixture
def _writers() -> Iterator[None]:
    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {
            "refused": RefusedWriter, "stateful": StatefulWriter, "duck": DuckWriter, "exiting": ExitingWriter,
            "unstorable": UnstorableWriter, "nothing": nothing,
            "failing": FailingWriter,
        }  # fmt: skip

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "writers-of-tests")
    yield
    keepfast.plugins.registry().unregister(plugin)


def run(directory: Path, writers: list[Any], module: Any = None, **settings: Any) -> None:
    cfg = {
        "directory": str(directory), "experiment_name": "run", "write_interval": 1, "checkpoint_interval": 0,
        "writers": writers, **settings,
    }  # fmt: skip
    with keepfast.Experiment(cfg, timesteps=3) as experiment:
        if module is not None:
            experiment.register(policy=module)
        for timestep in range(3):
            experiment.track_data("a", float(timestep))
            experiment.step(timestep)


@pytest.mark.usefixtures("_writers")
def test_a_writer_that_cannot_start_does_not_end_the_run(tmp_path: Path) -> None:
    """A full disk at the start of one writer is told once, and its losses at close; the others keep everything."""
    with pytest.warns(keepfast.KeepfastWarning) as told:
        run(tmp_path, ["refused", "jsonl"])
    once, tally = (str(warning.message) for warning in told)
    assert re.match("writer `refused` cannot start: .*No space left", once)
    assert re.search("refused: 3 calls were dropped because it could not start.*No space left", tally)
    assert keepfast.read_metrics(tmp_path / "run")["a"].values.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.usefixtures("_writers")
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("duck", r"its factory returned .*\(DuckWriter\); allowed: a `keepfast.Writer`"),
        ("nothing", r"its factory returned None \(NoneType\); allowed: a `keepfast.Writer`"),
        ("exiting", "not logged in"),
    ],
)
def test_a_factory_that_makes_no_writer_does_not_end_the_run(tmp_path: Path, name: str, cause: str) -> None:
    """It is told as a writer that cannot start, with what is allowed; the others keep everything."""
    with pytest.warns(keepfast.KeepfastWarning) as told:
        run(tmp_path, [name, "jsonl"])
    once, tally = (str(warning.message) for warning in told)
    assert re.match(f"writer `{name}` cannot start: {cause}", once)
    assert f"{name}: 3 calls were dropped because it could not start" in tally
    assert keepfast.read_metrics(tmp_path / "run")["a"].values.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.usefixtures("_writers")
def test_a_writer_whose_state_cannot_be_stored_does_not_end_the_run(tmp_path: Path, net: Callable[..., Any]) -> None:
    """Checkpoints are made without its state, and it is told as that writer's failure."""
    with pytest.warns(keepfast.KeepfastWarning) as told:
        run(tmp_path, ["unstorable", "jsonl"], net(), checkpoint_interval=1)
    once, tally = (str(warning.message) for warning in told)
    assert once.startswith("writer `unstorable` failed: InvalidValue: `file` is a builtins.object")
    assert "unstorable: 3 of" in tally
    stored = sorted(path.name.partition(".")[0] for path in (tmp_path / "run" / "checkpoints").glob("agent_*"))
    assert stored == ["agent_1", "agent_2", "agent_3"]
    assert keepfast.read_metrics(tmp_path / "run")["a"].values.tolist() == [0.0, 1.0, 2.0]


class WithoutTensorBoard:
    """The registry of an installation without any TensorBoard library."""

    def get(self, kind: str, name: str) -> Any:
        target = "keepfast_writers.tensorboard:TensorBoardWriter"
        absent = keepfast.lazy(target, requires=("no_such_tensorboard",))
        return absent if name == "tensorboard" else keepfast.plugins.registry().get(kind, name)


@pytest.mark.parametrize(
    "writers", [["tensorboard"], ["tensorboard", "jsonl"], [{"name": "tensorboard", "library": "auto"}]]
)
def test_without_a_tensorboard_library_the_run_is_kept_as_json_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writers: list[Any]
) -> None:
    """The run goes on with jsonl, once, and one warning names the package to install."""
    monkeypatch.setattr("keepfast.runs.recorder.registry", WithoutTensorBoard)
    told_so = "needs `no_such_tensorboard`.* run: pip install no_such_tensorboard; .*the `jsonl` writer"
    with pytest.warns(keepfast.KeepfastWarning, match=told_so) as told:
        run(tmp_path, writers)
    assert len(told) == 1
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name != "config.json"] == ["metrics.jsonl"]
    assert keepfast.read_metrics(tmp_path / "run")["a"].values.tolist() == [0.0, 1.0, 2.0]


def test_a_run_that_writes_nothing_is_not_told_of_a_missing_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no interval has values written, nothing is missed."""
    monkeypatch.setattr("keepfast.runs.recorder.registry", WithoutTensorBoard)
    run(tmp_path, ["tensorboard"], write_interval=0)


@pytest.mark.usefixtures("_writers")
def test_a_writer_that_cannot_start_can_be_an_error(tmp_path: Path) -> None:
    """With on_writer_error="raise" it ends the run, with its cause."""
    with pytest.raises(keepfast.WriterFailed, match="writer `refused` cannot start") as caught:
        run(tmp_path, ["refused", "jsonl"], on_writer_error="raise")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.usefixtures("_writers")
def test_the_error_that_ended_a_run_is_not_hidden_by_one_of_its_end(tmp_path: Path) -> None:
    """With on_writer_error="raise" the write's error is what is seen; those that closing adds are noted with it."""
    with (
        pytest.warns(keepfast.KeepfastWarning, match="failing: 2 of"),
        pytest.raises(keepfast.WriterFailed, match="failed in write_scalars: OSError: disk gone") as caught,
    ):
        run(tmp_path, ["failing"], on_writer_error="raise")
    assert any("failed in close: OSError: not closed either" in note for note in caught.value.__notes__)


@pytest.mark.usefixtures("_writers")
def test_a_writer_is_made_with_the_state_it_resumes_from(tmp_path: Path) -> None:
    """A writer's state is there when the writer is made again for a run that goes on."""
    from keepfast.runs.recorder import Recorder

    StatefulWriter.made_with.clear()
    config = keepfast.ExperimentConfig(writers=["stateful"])
    recorder = Recorder(config, tmp_path, {})
    recorder.writer.add_scalar("a", 1.0, 10)
    recorder.resume(recorder.state_dict(), 10)
    recorder.writer.flush()
    recorder.close()
    assert StatefulWriter.made_with == [{}, {"id": "abc"}]
