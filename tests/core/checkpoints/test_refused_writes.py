"""An operating system that refuses any single call costs that checkpoint and nothing else."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast


class Refusal:
    """Counts the calls that write, sync or rename, and refuses the one whose turn it is."""

    def __init__(self) -> None:
        self.calls = 0
        self.refused_call: int | None = None
        self.refused = 0
        self.number = errno.ENOSPC

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.refused_call:
            self.refused += 1
            raise OSError(self.number, os.strerror(self.number))


class RefusingFile:
    def __init__(self, file: Any, refusal: Refusal) -> None:
        self._file, self._refusal = file, refusal

    def write(self, data: Any) -> Any:
        self._refusal()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> RefusingFile:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._file.__exit__(*error)


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Refusal:
    refusal = Refusal()

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            refusal()
            return function(*args, **kwargs)

        return call

    original = Path.open

    def open_refusing(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = original(path, mode, *args, **kwargs)
        return RefusingFile(file, refusal) if "b" in mode and mode != "rb" else file

    monkeypatch.setattr(os, "fsync", refusing(os.fsync))
    monkeypatch.setattr(os, "replace", refusing(os.replace))
    monkeypatch.setattr(Path, "open", open_refusing)
    return refusal


def experiment_of(policy: Any, directory: Path, **settings: Any) -> keepfast.Experiment:
    cfg = {"directory": str(directory), "experiment_name": "run", "writers": [], **settings}
    cfg["provenance"] = False  # which is written once git has answered, amid the calls that are counted
    experiment = keepfast.Experiment(cfg, timesteps=10_000)
    experiment.register(policy=policy)
    return experiment


@pytest.mark.parametrize("settings", [{}, {"store_separately": True}, {"async_checkpoints": False}], ids=str)
@pytest.mark.parametrize("checkpoint_format", ["pt", "safetensors"])
def test_a_refused_call_costs_one_checkpoint(
    checkpoint_format: str, settings: dict[str, Any], refusal: Refusal, net: Any, tmp_path: Path
) -> None:
    """Whichever call is refused: a warning, the earlier checkpoint loads, and the next one is stored."""
    policy = net(w=np.zeros(100, np.float32))
    weights = policy.arrays
    experiment = experiment_of(policy, tmp_path, checkpoint_format=checkpoint_format, **settings)
    experiment.write_checkpoint(1)
    experiment.wait()
    refusal.calls = 0
    experiment.write_checkpoint(2)
    experiment.wait()
    calls = refusal.calls
    assert calls > 5

    for number in range(1, calls + 1):
        step = 10 * number
        weights["w"][...] = step
        refusal.calls, refusal.refused_call = 0, number
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            experiment.write_checkpoint(step)
            experiment.wait()
        refusal.refused_call = None
        assert refusal.refused == number
        if number == 1:
            assert "No space left on device" in str(told[0].message)
        weights["w"][...] = -1
        found = experiment.resume()
        assert found in (step, step - 5, 2)  # the last call is the index's own, after the checkpoint was durable
        assert (weights["w"] == (0 if found == 2 else found)).all()

        weights["w"][...] = step + 5
        experiment.write_checkpoint(step + 5)
        experiment.wait()
        assert experiment.resume() == step + 5

    with pytest.warns(keepfast.KeepfastWarning, match=f"{calls} checkpoints could not be stored"):
        experiment.close()


def test_a_vanished_directory_does_not_end_the_training(net: Any, tmp_path: Path) -> None:
    """Where the run's directory is replaced by a file, one warning is given and the training goes on."""
    experiment = experiment_of(net(), tmp_path, checkpoint_interval=1)
    checkpoints = experiment.directory / "checkpoints"
    checkpoints.write_text("in the way")
    with pytest.warns(keepfast.KeepfastWarning, match="could not be stored") as told:
        for timestep in range(5):
            experiment.step(timestep)
        experiment.wait()
    assert len(told) == 1
    checkpoints.unlink()
    experiment.step(5)
    experiment.wait()
    assert (checkpoints / "agent_6.safetensors").exists()
    with pytest.warns(keepfast.KeepfastWarning, match="5 checkpoints could not be stored"):
        experiment.close()
