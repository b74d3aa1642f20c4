"""Warnings that are turned into errors cost no data: what was taken out is written before anything is told."""

from __future__ import annotations

import errno
import importlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest

import keepfast
from keepfast._system.warnings import Afterwards, warn

TAG = "Loss / Loss"


@final
class Failing(keepfast.Writer):
    """A writer that keeps nothing."""

    def __init__(self, context: keepfast.WriterContext) -> None:
        self.context = context

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        raise ValueError("no room")


def unable(context: keepfast.WriterContext) -> keepfast.Writer:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def _writers() -> Iterator[None]:
    @keepfast.hookimpl
    def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
        return {"failing": Failing, "unable": unable}

    plugin = SimpleNamespace(keepfast_writers=keepfast_writers)
    keepfast.plugins.registry().register(plugin, "failing-writers")
    yield
    keepfast.plugins.registry().unregister(plugin)


def refuse_once(monkeypatch: pytest.MonkeyPatch, code: int, *, link: bool = False) -> None:
    """Have the system refuse one more call."""
    name = "link" if link else "replace"
    original, refused = getattr(os, name), []

    def call(*args: Any) -> None:
        if not refused and "agent_" in str(args[1]):
            refused.append(args)
            raise OSError(code, os.strerror(code))
        original(*args)

    monkeypatch.setattr(os, name, call)


def not_finite(experiment: keepfast.Experiment, timestep: int, _: pytest.MonkeyPatch) -> None:
    experiment.track_data("Loss / Other", float("nan") if timestep == 3 else 1.0)


def not_kept(experiment: keepfast.Experiment, timestep: int, _: pytest.MonkeyPatch) -> None:
    if timestep == 3:
        experiment.writer.add_text("note", "text", 3)


def refused(_: keepfast.Experiment, timestep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if timestep == 3:
        refuse_once(monkeypatch, errno.ENOSPC)


def rewarded(experiment: keepfast.Experiment, timestep: int, _: pytest.MonkeyPatch) -> None:
    ends = timestep % 4 == 2
    experiment.record_transition(np.float32([0.0 if timestep % 4 == 3 else 1.0]), np.array([ends]), np.array([False]))


def nothing(*_: object) -> None:
    """Do nothing beside the training."""


CASES: dict[str, tuple[dict[str, Any], Callable[..., None], str]] = {
    "a value that is not finite": ({}, not_finite, "not finite"),
    "a writer that fails": ({"writers": ["failing", "jsonl"]}, nothing, "`failing` failed: ValueError: no room"),
    "a kind that is not kept": ({"writers": ["csv", "jsonl"]}, not_kept, "does not keep"),
    "a metric that is nearly one": ({"best_metric": "Loss / loss"}, nothing, "did you mean `Loss / Loss`"),
    "a metric that is none": ({"best_metric": "Return"}, nothing, "which is not among what is written"),
    "a checkpoint that is refused": ({}, refused, "No space left on device"),
    "rows that look like resets": ({}, rewarded, "followed by a row of reward 0"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("behind", [True, False], ids=["behind", "in line"])
def test_nothing_is_lost_to_a_warning(
    case: str, behind: bool, tmp_path: Path, net: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is told: values tracked until then are on disk, checkpoints are stored, and close completes its work."""
    settings, act, message = CASES[case]
    base = {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 2}
    told: list[str] = []

    def call(function: Callable[..., object], *args: Any) -> None:
        try:
            function(*args)
        except keepfast.KeepfastWarning as warning:
            told.extend([str(warning), *getattr(warning, "__notes__", [])])

    cfg = {**base, "checkpoint_interval": 4, "async_checkpoints": behind, **settings}
    experiment = keepfast.Experiment(cfg, timesteps=100)
    experiment.register(policy=net(0))
    for timestep in range(13):
        experiment.track_data(TAG, float(timestep))
        call(act, experiment, timestep, monkeypatch)
        call(experiment.step, timestep)
        call(experiment.wait)
    call(experiment.close)
    assert any(message in text for text in told)
    series = keepfast.read_metrics(tmp_path / "run")[TAG]
    assert list(series.steps) == [2, 4, 6, 8, 10, 12, 13]
    np.testing.assert_array_equal(series.values, [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.0])
    stored = sorted(path.stem for path in (tmp_path / "run" / "checkpoints").glob("agent_*"))
    assert stored == sorted({"agent_4", "agent_8", "agent_12", "agent_13"} - ({"agent_4"} if act is refused else set()))
    with pytest.raises(keepfast.UsageError):
        experiment.step(13)


def test_a_count_that_starts_over_is_written_first(tmp_path: Path, net: Callable[..., Any]) -> None:
    """The step that is told of is complete, with what was due in it."""
    cfg = {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}
    experiment = keepfast.Experiment({**cfg, "checkpoint_interval": 1})
    experiment.register(policy=net(0))
    for timestep in range(20):
        experiment.step(timestep)
    experiment.track_data(TAG, 1.0)
    with pytest.raises(keepfast.KeepfastWarning, match="counts again"):
        experiment.step(0)
    experiment.close()
    assert list(keepfast.read_metrics(tmp_path / "run")[TAG].steps) == [1]


def test_a_run_that_is_not_resumed_begins_all_the_same(tmp_path: Path, net: Callable[..., Any]) -> None:
    """It is told with the first step, which is complete."""
    cfg = {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"], "write_interval": 1}
    for start in range(2):
        experiment = keepfast.Experiment({**cfg, "checkpoint_interval": 1})
        experiment.register(policy=net(0))
        experiment.track_data(TAG, float(start))
        if start:
            with pytest.raises(keepfast.KeepfastWarning, match="earlier run"):
                experiment.step(start)
        else:
            experiment.step(start)
        experiment.close()
    assert list(keepfast.read_metrics(tmp_path / "run")[TAG].steps) == [1, 2]
    assert (tmp_path / "run" / "checkpoints" / "agent_2.safetensors").exists()


@pytest.mark.needs("torch")
@pytest.mark.parametrize("rows", [2, 7])
def test_a_memory_is_exported_and_filled_before_a_failure_is_told(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cycles after the one that could not be written are files, the last, partial one too; every sample is kept."""
    torch = importlib.import_module("keepfast_torch")
    memory = torch.RandomMemory(2, 1, export=True, export_format="np", export_directory=tmp_path)
    memory.create_tensor("a", 1, np.float32)
    replace, refusing = os.replace, [True]

    def once(*args: Any) -> None:
        if refusing.pop() if refusing else False:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*args)

    monkeypatch.setattr(os, "replace", once)
    memory.add_samples(a=np.zeros((2, 1, 1), np.float32))
    memory._exports._background.wait()
    with pytest.raises(keepfast.KeepfastWarning, match="a memory was not exported"):
        memory.add_samples(a=np.arange(rows, dtype=np.float32).reshape(rows, 1, 1))
    with pytest.raises(keepfast.KeepfastWarning, match="failed; the first: "):
        memory.close()
    assert sorted(memory.get_tensor_by_name("a", keepdim=False).reshape(-1).tolist()) == [rows - 2, rows - 1]
    assert len(list(tmp_path.iterdir())) == (rows + 1) // 2


def test_what_is_held_back_is_told_in_order() -> None:
    """The first is raised, and notes the others; what went wrong itself goes first."""
    with pytest.raises(keepfast.KeepfastWarning, match="one") as raised, Afterwards():  # noqa: PT012  (what is told at its end)
        warn("one")
        with Afterwards():
            warn("two")
        done = True
    assert done
    assert raised.value.__notes__ == ["and then: KeepfastWarning: two"]
    with pytest.raises(ValueError, match="wrong") as failed, Afterwards():  # noqa: PT012
        warn("told")
        raise ValueError("wrong")
    assert failed.value.__notes__ == ["and then: KeepfastWarning: told"]
    with warnings.catch_warnings(record=True) as caught, Afterwards():
        warnings.simplefilter("always")
        warn("here")
    assert [Path(each.filename).name for each in caught] == ["test_warnings_as_errors.py"]


def test_a_writer_that_cannot_start_is_told_before_anything_is_tracked(tmp_path: Path) -> None:
    """So the error costs no data: the run has not begun. The other writers are closed and the directory is free."""
    cfg = {"directory": tmp_path, "experiment_name": "run", "writers": ["unable", "jsonl"]}
    with pytest.raises(keepfast.KeepfastWarning, match="`unable` cannot start") as kept:
        keepfast.Experiment(cfg)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json"]
    for thread in [each for each in threading.enumerate() if each.name == "writer jsonl"]:
        thread.join(30)  # it was told to end, and may be about to
        assert not thread.is_alive()
    with (
        pytest.warns(keepfast.KeepfastWarning, match="`unable` cannot start"),
        pytest.warns(keepfast.KeepfastWarning, match="not every writer kept everything"),
        keepfast.Experiment(cfg) as again,
    ):
        again.track_data(TAG, 1.0)
        again.write_tracking_data(1)
    assert keepfast.read_metrics(tmp_path / "run")[TAG].steps.tolist() == [1]
    assert kept.traceback  # which holds what was half made
