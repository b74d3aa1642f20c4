"""What a run does about writers that cannot start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import holdfast


class RefusedWriter(holdfast.Writer):
    """Finds no place to write in."""

    def __init__(self, context: holdfast.WriterContext) -> None:
        raise OSError(28, "No space left on device")

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        raise AssertionError("never made")


class StatefulWriter(holdfast.Writer):
    """Tells what it was made with."""

    made_with: list[Mapping[str, Any]] = []  # noqa: RUF012  (what tests look at)

    def __init__(self, context: holdfast.WriterContext) -> None:
        self.made_with.append(context.resume_state)

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"id": "abc"}


@pytest.fixture
def _writers() -> Iterator[None]:
    @holdfast.hookimpl
    def holdfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"refused": RefusedWriter, "stateful": StatefulWriter}

    plugin = SimpleNamespace(holdfast_writers=holdfast_writers)
    holdfast.plugins.registry().register(plugin, "writers-of-tests")
    yield
    holdfast.plugins.registry().unregister(plugin)


def run(directory: Path, writers: list[str], **settings: Any) -> None:
    cfg = {
        "directory": str(directory), "experiment_name": "run", "write_interval": 1, "checkpoint_interval": 0,
        "writers": writers, **settings,
    }  # fmt: skip
    with holdfast.Experiment(cfg, timesteps=3) as experiment:
        for timestep in range(3):
            experiment.track_data("a", float(timestep))
            experiment.step(timestep)


@pytest.mark.usefixtures("_writers")
def test_a_writer_that_cannot_start_does_not_end_the_run(tmp_path: Path) -> None:
    """A full disk at the start of one writer is told once; the others keep everything."""
    with pytest.warns(holdfast.HoldfastWarning, match="writer `refused` cannot start: .*No space left") as told:
        run(tmp_path, ["refused", "jsonl"])
    assert len(told) == 1
    assert holdfast.read_metrics(tmp_path / "run")["a"].values.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.usefixtures("_writers")
def test_a_writer_that_cannot_start_can_be_an_error(tmp_path: Path) -> None:
    """With on_writer_error="raise" it ends the run, with its cause."""
    with pytest.raises(holdfast.WriterFailed, match="writer `refused` cannot start") as caught:
        run(tmp_path, ["refused", "jsonl"], on_writer_error="raise")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.usefixtures("_writers")
def test_a_writer_is_made_with_the_state_it_resumes_from(tmp_path: Path) -> None:
    """A writer's state is there when the writer is made again for a run that goes on."""
    from holdfast.recording import Recorder

    StatefulWriter.made_with.clear()
    config = holdfast.ExperimentConfig(writers=["stateful"])
    recorder = Recorder(config, tmp_path, {})
    recorder.writer.add_scalar("a", 1.0, 10)
    recorder.resume(recorder.state_dict(), 10, own=True)
    recorder.writer.flush()
    recorder.close()
    assert StatefulWriter.made_with == [{}, {"id": "abc"}]
