"""In which order copies are made and written, and which copy is which."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import keepfast
from keepfast.modules.registered import RegisteredModule
from keepfast.modules.table import ModuleTable
from keepfast.runs.checkpointer import Checkpointer
from keepfast.runs.resuming import find

TAG = "Reward / Total reward (mean)"
Make = Callable[..., Checkpointer]


@pytest.fixture
def modules(net: Callable[..., Any]) -> dict[str, Any]:
    return {"policy": net(0), "value": net(1)}


@pytest.fixture
def make(tmp_path: Path, modules: dict[str, Any]) -> Iterator[Make]:
    """Return a maker of checkpointers on one directory; each is closed at the end."""
    made: list[Checkpointer] = []

    def make(settle: Callable[[], None] = lambda: None, **settings: Any) -> Checkpointer:
        config = keepfast.ExperimentConfig(checkpoint_interval=10, **settings)
        table = ModuleTable(modules, config.backend)

        def state(_modules: Sequence[RegisteredModule]) -> dict[str, Any]:
            return {"best": made[-1].best.state()}

        made.append(Checkpointer(config, tmp_path / "checkpoints", table, state, settle=settle))
        return made[-1]

    yield make
    for checkpointer in made:
        checkpointer.close()


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the checkpoints that get their names, in order."""
    names: list[str] = []
    replace = os.replace

    def noting(source: Any, target: Any) -> None:
        replace(source, target)
        if Path(target).name != "index.json":
            names.append(Path(target).stem)

    monkeypatch.setattr(os, "replace", noting)
    return names


@pytest.fixture
def copied(numpy_backend: Any, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note the trees that are copied."""
    trees: list[object] = []
    host_copy = type(numpy_backend).host_copy
    monkeypatch.setattr(
        type(numpy_backend), "host_copy", lambda backend, tree: trees.append(tree) or host_copy(backend, tree)
    )
    return trees


def set_bias(modules: dict[str, Any], value: float) -> None:
    for module in modules.values():
        module.arrays["body"]["bias"][...] = value


def biases(checkpointer: Checkpointer, which: str) -> tuple[int, set[float]]:
    """Return the timestep of a checkpoint on disk, and what its modules have for a bias."""
    found = find(which, checkpointer.directory)
    assert found is not None
    return found.timestep, {
        float(value) for module in found.checkpoint.modules.values() for value in module["body"]["bias"]
    }


def test_the_best_is_durable_before_the_checkpoint_that_speaks_of_it(make: Make, placed: list[str]) -> None:
    """A kill between the two leaves no checkpoint whose resume state knows of a score that no file has."""
    checkpointer = make(async_checkpoints=False)
    checkpointer.judge({TAG: 1.0}, 1, 5)
    checkpointer.checkpoint(10)
    assert placed == ["best_agent", "agent_10"]


def test_a_copy_is_made_once_the_one_before_is_durable(make: Make, copied: list[object]) -> None:
    """So that there is never more than one in memory: whoever asks for the next waits before it is made."""
    gate, asked = threading.Event(), threading.Event()
    checkpointer = make(settle=lambda: gate.wait(60) and None)
    checkpointer.checkpoint(10)
    assert len(copied) == 2
    asking = threading.Thread(target=lambda: (asked.set(), checkpointer.checkpoint(20)))
    asking.start()
    asked.wait()
    asking.join(0.3)
    meanwhile = len(copied)
    gate.set()
    asking.join()
    assert (meanwhile, len(copied)) == (2, 4)


def test_each_copy_is_of_its_own_timestep(make: Make, modules: dict[str, Any]) -> None:
    """The best holds the modules as they scored, the periodic one those of its own time, though both are due."""
    checkpointer = make()
    set_bias(modules, 5.0)
    checkpointer.judge({TAG: 1.0}, 1, 5)
    set_bias(modules, 10.0)
    checkpointer.checkpoint(10)
    checkpointer.wait()
    assert biases(checkpointer, "best") == (5, {5.0})
    assert biases(checkpointer, "latest") == (10, {10.0})


def test_what_scored_at_this_very_timestep_is_copied_once(
    make: Make, modules: dict[str, Any], copied: list[object]
) -> None:
    """The best and the periodic checkpoint are then of one copy, which takes half the time."""
    checkpointer = make()
    set_bias(modules, 10.0)
    checkpointer.judge({TAG: 1.0}, 1, 10)
    checkpointer.checkpoint(10)
    checkpointer.wait()
    assert len(copied) == 2
    assert biases(checkpointer, "best") == biases(checkpointer, "latest") == (10, {10.0})


def test_a_best_that_is_refused_waits_for_the_next_checkpoint(
    make: Make, modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the best all the same, as it was when it scored."""

    def refuse(_source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpointer = make(async_checkpoints=False)
    set_bias(modules, 5.0)
    checkpointer.judge({TAG: 1.0}, 1, 5)
    set_bias(modules, 10.0)
    with monkeypatch.context() as patched, pytest.warns(keepfast.KeepfastWarning, match="could not be stored"):
        patched.setattr(os, "replace", refuse)
        checkpointer.checkpoint(10)
    checkpointer.checkpoint(20)
    assert biases(checkpointer, "best") == (5, {5.0})
    with pytest.warns(keepfast.KeepfastWarning, match="2 checkpoints could not be stored"):
        checkpointer.close()


def test_what_lies_ahead_is_abandoned_once_something_stands_in_its_place(make: Make) -> None:
    """A run that goes on from further back and is killed before it stored anything has lost nothing."""
    checkpointer = make(async_checkpoints=False)
    for timestep in (10, 20, 30):
        checkpointer.checkpoint(timestep)
    checkpointer.branch(10)
    assert biases(checkpointer, "latest")[0] == 30
    checkpointer.checkpoint(15)
    assert biases(checkpointer, "latest")[0] == 15
    assert [found.timestep for found in checkpointer.directory.checkpoints() if found.superseded] == [20, 30]


def test_a_run_that_starts_among_files_goes_by_all_of_them(make: Make, tmp_path: Path) -> None:
    """Litter is swept, what the index lacks is taken in, and the best on disk is the one to beat."""
    earlier = make(async_checkpoints=False)
    earlier.judge({TAG: 7.0}, 1, 5)
    earlier.checkpoint(10)
    directory = tmp_path / "checkpoints"
    (directory / ".agent_20.safetensors.0123456789ab.keepfast-tmp").write_bytes(b"half")
    (directory / "index.json").unlink()
    checkpointer = make(async_checkpoints=False)
    assert checkpointer.start()
    assert checkpointer.best.score == 7.0
    assert sorted(path.name for path in directory.iterdir()) == [
        "agent_10.safetensors",
        "best_agent.safetensors",
        "index.json",
    ]
    checkpointer.judge({TAG: 6.0}, 1, 20)
    checkpointer.checkpoint(20)
    assert biases(checkpointer, "best")[0] == 5


def test_the_best_that_a_checkpoint_knows_is_the_one_to_beat(make: Make) -> None:
    """Though the directory has it no longer."""
    earlier = make()
    earlier.judge({TAG: 7.0}, 1, 5)
    state = earlier.best.state()
    checkpointer = make()
    checkpointer.resume(state, 10)
    assert checkpointer.best.score == 7.0
