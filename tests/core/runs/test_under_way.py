"""What is still being written is waited for by whoever loads it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast._system.background import wait_for_writing
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.formats.memories.npz import NpzExporter

Net = Any


class Slow:
    """Has a format begin to write only when somebody waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> None:
        self.asked = threading.Event()
        write = kind.write

        def late(store: Any, content: Any, file: Any) -> None:
            assert self.asked.wait(30)
            write(store, content, file)

        monkeypatch.setattr(kind, "write", late)

    def __call__(self, load: Callable[[], Any]) -> Any:
        """Load, and let the writing begin a moment later."""
        timer = threading.Timer(0.05, self.asked.set)
        timer.start()
        try:
            return load()
        finally:
            timer.join()


def test_what_went_wrong_behind_training_is_raised_at_the_next_step(net: Callable[..., Net], tmp_path: Path) -> None:
    """Not at the next checkpoint only, which may be hours away, nor at the end."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [], "checkpoint_interval": 10}
    with keepfast.Experiment(cfg, timesteps=1000) as experiment:
        odd = net()
        experiment.register(policy=odd)
        experiment.step(0)
        odd.arrays["odd"] = threading.Lock()
        for timestep in range(1, 10):
            experiment.step(timestep)
        wait_for_writing(experiment.directory / "checkpoints")
        with pytest.raises(TypeError, match="odd"):
            experiment.step(10)
        del odd.arrays["odd"]
        experiment.step(11)


@pytest.mark.parametrize("way", ["load", "agent", "resume", "run"])
def test_a_load_waits_for_what_is_being_written(
    net: Callable[..., Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Right after the loop, by another model, another agent and another run; by the file's path or the run's."""
    slow = Slow(monkeypatch, SafetensorsStore)
    cfg = {"directory": str(tmp_path), "experiment_name": "one", "writers": ["jsonl"], "checkpoint_interval": 20}
    agent = keepfast.Agent({"policy": net(seed=1)}, cfg={"experiment": cfg})
    for timestep in range(20):
        agent.post_interaction(timestep, 20)
    path, other = agent.experiment_dir / "checkpoints" / "agent_20.safetensors", net(seed=2)
    if way == "load":
        slow(lambda: keepfast.load(other, path, modules=["policy"]))
    elif way == "agent":
        slow(
            lambda: keepfast.Agent({"policy": other}, cfg={"experiment": {**cfg, "experiment_name": "two"}}).load(path)
        )
    else:
        with keepfast.Experiment({**cfg, "experiment_name": "two"}) as experiment:
            experiment.register(policy=other)
            assert slow(lambda: experiment.resume(path if way == "resume" else agent.experiment_dir)) == 20
    np.testing.assert_array_equal(other.arrays["body"]["weight"], net(seed=1).arrays["body"]["weight"])
    agent.close()


def test_a_memory_is_read_when_its_export_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a pattern of the directory."""
    from keepfast.memories.export import MemoryExport

    slow = Slow(monkeypatch, NpzExporter)
    export = MemoryExport("npz", tmp_path / "memory", active=True)
    export.filled(1, lambda: keepfast.MemorySnapshot({"x": np.ones((2, 1, 1))}, 0, 0, filled=True))
    ((_, found),) = slow(lambda: list(keepfast.iter_memories(tmp_path / "memory" / "*")))
    assert found["x"].shape == (2, 1, 1)
    export.close()


def test_what_went_wrong_is_left_to_whoever_asked_for_it(
    net: Callable[..., Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that waited says what it finds; the run itself tells of the failure."""

    def write(*_given: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(SafetensorsStore, "write", write)
    experiment = keepfast.Experiment({"directory": str(tmp_path), "experiment_name": "one", "writers": ["jsonl"]})
    experiment.register(policy=net())
    experiment.write_checkpoint(1)
    with pytest.raises(keepfast.NotFound):
        keepfast.load(net(), experiment.directory / "checkpoints" / "agent_1.safetensors")
    with pytest.raises(RuntimeError, match="broken"):
        experiment.wait()
    experiment.close()


@pytest.mark.parametrize("asked", ["agent_1200.pickle", "agent_1200.pt", "agent_1200"])
def test_what_lies_beside_under_another_name_is_told(net: Callable[..., Net], tmp_path: Path, asked: str) -> None:
    """Older scripts ask for `.pickle` where a run stored safetensors; what is no checkpoint is not offered."""
    keepfast.save(net(), tmp_path / "agent_1200.safetensors")
    keepfast.save(net(), tmp_path / "agent_120.safetensors")
    (tmp_path / "agent_1200.txt").touch()
    with pytest.raises(keepfast.NotFound, match=r"; beside it lies `agent_1200\.safetensors`, which you"):
        keepfast.load(net(), tmp_path / asked)
    with pytest.raises(keepfast.NotFound, match=r"it is not there$"):
        keepfast.load(net(), tmp_path / "agent_7.pickle")
