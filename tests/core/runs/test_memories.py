"""Memories among the modules: stored less often, never lost, and told of where they are not there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, final

import numpy as np
import pytest

import keepfast
from keepfast.checkpoints.index import read_index
from keepfast.plugins import backends
from keepfast.tree import Tree

Net = Any


@final
class MemoryBackend(keepfast.Backend):
    """Captures memories."""

    name: ClassVar[str] = "kept"
    checkpoint_format: ClassVar[str] = "safetensors"

    def recognizes(self, module: object) -> bool:
        return isinstance(module, keepfast.Memory)

    def capture(self, module: Any) -> Tree:
        return module.state_dict()

    def restore(self, module: Any, state: Tree, device: Any = None) -> Any:
        module.load_state_dict(state)
        return module

    def is_open(self, module: Any) -> bool:
        return True


@pytest.fixture
def memory(example: Callable[[type], str]) -> Iterator[Callable[[], keepfast.Memory]]:
    """Return a maker of memories of NumPy arrays."""
    known: dict[str, Any] = {"np": np, "keepfast": keepfast}
    exec(example(keepfast.Storage), known)
    storage = type("KeptStorage", (known["NumpyStorage"],), {"backend": "kept"})

    @keepfast.hookimpl
    def keepfast_backends() -> Mapping[str, Callable[[], Any]]:
        return {"kept": MemoryBackend}

    plugin = SimpleNamespace(keepfast_backends=keepfast_backends)
    keepfast.plugins.registry().register(plugin, "memory-backend")

    def make() -> keepfast.Memory:
        made = keepfast.Memory(storage(4, 1))
        made.create_tensor("states", 1)
        return made

    yield make
    keepfast.plugins.registry().unregister(plugin)
    backends._made.pop("kept", None)


def start(directory: Path, net: Net, memory: keepfast.Memory, **settings: Any) -> keepfast.Experiment:
    own = {"directory": str(directory), "experiment_name": "run", "writers": [], "checkpoint_interval": 10}
    experiment = keepfast.Experiment({**own, **settings}, timesteps=1000)
    experiment.register(policy=net, memory=memory)
    return experiment


def train(experiment: keepfast.Experiment, memory: keepfast.Memory, steps: range) -> None:
    for timestep in steps:
        memory.add_samples(states=np.full((1, 1), float(timestep)))
        experiment.step(timestep)


def holding(directory: Path) -> dict[int | None, bool]:
    """Return which checkpoints hold the memory."""
    return {found.timestep: "memory" in found.modules for found in read_index(directory / "run" / "checkpoints")}


def test_memories_have_an_interval_of_their_own(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """Checkpoints between its multiples leave them out; one that is asked for out of turn holds them."""
    kept = memory()
    with start(tmp_path, net(), kept, memory_checkpoint_interval=30) as experiment:
        train(experiment, kept, range(42))
        experiment.write_checkpoint(42)
        experiment.wait()
        assert holding(tmp_path) == {10: False, 20: False, 30: True, 40: False, 42: True}


def test_the_only_copy_of_a_memory_stays(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """`keep_last` removes no checkpoint that holds it before there is another."""
    kept = memory()
    with start(tmp_path, net(), kept, memory_checkpoint_interval=30, keep_last=1) as experiment:
        train(experiment, kept, range(55))
        experiment.wait()
        assert holding(tmp_path) == {30: True, 50: False}
        train(experiment, kept, range(55, 65))
        experiment.wait()
        assert holding(tmp_path) == {60: True}


def test_a_resume_without_the_memory_says_so(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """The memory stays as it is, and the setting that has checkpoints hold it is named."""
    kept = memory()
    with start(tmp_path, net(), kept, memory_checkpoint_interval=0) as experiment:
        train(experiment, kept, range(15))
        experiment.wait()
        other = start(tmp_path / "other", net(), memory())
        with pytest.warns(keepfast.KeepfastWarning, match="does not hold the memory `memory`, which stays as it"):
            assert other.resume(tmp_path / "run" / "checkpoints" / "agent_10.safetensors") == 10
        other.close()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_a_signal_has_all_of_it_stored(net: Callable[..., Net], memory: Any, tmp_path: Path) -> None:
    """The timestep is completed and a checkpoint made, with the memories though they are not due."""
    kept = memory()
    experiment = start(tmp_path, net(), kept, memory_checkpoint_interval=30)
    train(experiment, kept, range(12))
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(SystemExit):
        train(experiment, kept, range(12, 30))
    assert holding(tmp_path) == {10: False, 13: True}


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_a_signal_has_all_of_it_stored_where_a_checkpoint_is_due(
    net: Callable[..., Net], memory: Any, tmp_path: Path
) -> None:
    """The memories too, though an earlier checkpoint could not be: there was nothing to store in it yet."""
    cfg = {"directory": str(tmp_path), "experiment_name": "run", "writers": [], "checkpoint_interval": 10}
    experiment = keepfast.Experiment({**cfg, "memory_checkpoint_interval": 30}, timesteps=1000)
    with pytest.warns(keepfast.KeepfastWarning, match="no module is registered"):
        for timestep in range(12):
            experiment.step(timestep)
    experiment.register(policy=net(), memory=memory())
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(SystemExit):
        experiment.step(12)
    assert holding(tmp_path) == {13: True}
