"""A memory that belongs to an agent is where the agent's run is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast

Net = Any


class PPO(keepfast.Agent):
    """An agent that learns nothing."""


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {"experiment": {"directory": str(directory), "writers": ["jsonl"], **settings}}


def exports(memory: Any) -> list[Path]:
    memory.create_tensor("x", 1)
    for number in range(2):
        memory.add_samples(x=np.full((1, 1), number, "f4"))
    memory.close()
    return sorted(Path(memory.export_directory).glob("*_memory_*.npz"))


def test_exports_without_a_directory_go_where_the_run_is(
    numpy_memory: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a memory that belongs to an agent; one that has a directory, or nothing, keeps to that or to the default."""
    monkeypatch.chdir(tmp_path)
    own = numpy_memory(2, export=True, export_format="npz", export_directory="")
    agent = PPO(memory=own, cfg=cfg_in(tmp_path / "runs"))
    agent.init({"timesteps": 2})
    assert own.export_directory == agent.experiment_dir
    assert len(exports(own)) == 1
    agent.close()
    for given, expected in ((None, "memory"), ("", "memory"), ("other", "other")):
        memory = numpy_memory(2, export=True, export_format="npz", export_directory=given)
        assert memory.export_directory == tmp_path / expected


def test_a_memory_follows_its_agent_into_the_last_run(
    net: Callable[..., Net], numpy_memory: type[Any], tmp_path: Path
) -> None:
    """After `resume("last")` its exports go there too."""
    first = PPO({"policy": net()}, cfg=cfg_in(tmp_path, checkpoint_interval=1))
    first.init({"timesteps": 10})
    first.post_interaction(0, 10)
    first.close()
    memory = numpy_memory(2, export=True, export_format=None, export_directory="")
    second = PPO({"policy": net()}, memory=memory, cfg=cfg_in(tmp_path, checkpoint_interval=1))
    second.init({"timesteps": 10})
    assert second.resume("last") == 1
    assert memory.export_directory == second.experiment_dir == first.experiment_dir
    assert memory.export_format == "pt"
    second.close()
