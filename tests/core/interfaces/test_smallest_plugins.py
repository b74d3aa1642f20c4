"""The smallest plugins, which the interfaces' own documentation shows, work as they stand there."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast


def shown(interface: type) -> Any:
    """Return the class that an interface's docstring shows, made with the public names alone."""
    (code,) = re.findall(r"::\n\n((?:    .*\n|\n)+)", inspect.getdoc(interface) or "")
    namespace: dict[str, Any] = {"keepfast": keepfast, "numpy": np}
    exec(textwrap.dedent(code), namespace)
    (made,) = [value for name, value in namespace.items() if inspect.isclass(value) and name[0].isupper()]
    return made


def test_the_smallest_writer_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each value is printed with its step."""
    with shown(keepfast.Writer)(keepfast.WriterContext(tmp_path, "run"), prefix="> ") as writer:
        writer.add_scalar("Loss / Policy loss", 0.5, global_step=10)
    assert capsys.readouterr().out == ">  10 Loss / Policy loss 0.5\n"


def test_the_smallest_checkpoint_format_stores(tmp_path: Path) -> None:
    """What was saved is loaded, with its metadata."""
    store = shown(keepfast.CheckpointStore)()
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    store.save(keepfast.Checkpoint({"net": {"weight": weight}}, {"timestep": 7}), tmp_path / "agent_7.json")
    found = store.load(tmp_path / "agent_7.json")
    assert found.metadata == {"timestep": 7}
    assert np.array_equal(found.modules["net"]["weight"], weight)


def test_the_smallest_memory_format_stores(tmp_path: Path) -> None:
    """What was saved is loaded, with the place of the next sample."""
    exporter = shown(keepfast.MemoryExporter)()
    rewards = np.arange(8.0).reshape(4, 2, 1)
    exporter.save(keepfast.MemorySnapshot({"rewards": rewards}, 3, 1, filled=True), tmp_path / "memory.npz")
    found = exporter.load(tmp_path / "memory.npz")
    assert (found.memory_index, found.env_index, found.filled) == (3, 1, True)
    assert np.array_equal(found.tensors["rewards"], rewards)


def test_the_smallest_backend_captures_and_restores() -> None:
    """A dictionary of arrays goes through a host copy and back, in place."""
    backend = shown(keepfast.Backend)()
    module = {"weight": np.ones(3)}
    kept = backend.host_copy(backend.capture(module))
    module["weight"][...] = 0.0
    assert backend.recognizes(module)
    assert backend.restore(module, kept) is module
    assert module["weight"].tolist() == [1.0, 1.0, 1.0]


def test_the_smallest_step_buffer_joins_its_steps() -> None:
    """Its steps come back in order, an end of either kind an end."""
    buffer = shown(keepfast.StepBuffer)()
    for reward in (1.0, 2.0):
        buffer.add(np.full(2, reward), np.array([reward > 1, False]), np.array([False, True]))
    rewards, ended = buffer.take()
    assert rewards.tolist() == [[1.0, 1.0], [2.0, 2.0]]
    assert ended.tolist() == [[False, True], [True, True]]
