"""One agent may train and evaluate several times; what a later pass stores stands beside what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast

Net = Any
TAG = "Loss / Loss"


class PPO(keepfast.Agent):
    """An agent whose policy changes with each timestep."""


def cfg_in(directory: Path, **settings: Any) -> dict[str, Any]:
    return {"experiment": {"directory": directory, "experiment_name": "run", "writers": ["jsonl"], **settings}}


def run(agent: keepfast.Agent, timesteps: int, until: int | None = None) -> None:
    for timestep in range(until or timesteps):
        agent.models["policy"].arrays["body"]["weight"] += 1
        agent.track_data(TAG, float(timestep))
        agent.record_transition(None, None, np.ones(2), None, np.zeros(2), np.zeros(2), {}, timestep, timesteps)
        agent.post_interaction(timestep, timesteps)
    agent.wait()


def stored(agent: keepfast.Agent) -> dict[str, str]:
    found = sorted((agent.experiment_dir / "checkpoints").glob("agent_*"))
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize("first", [4, 20])
@pytest.mark.parametrize("again", ["silent", "init", "shorter", "longer"])
def test_a_second_training_overwrites_nothing(net: Callable[..., Net], tmp_path: Path, first: int, again: str) -> None:
    """Its timesteps are counted on, whether or not it was told, in checkpoints and metrics; so are a third one's."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path, checkpoint_interval=2, write_interval=2))
    agent.init({"timesteps": first})
    run(agent, first)
    before = stored(agent)
    length = {"shorter": first // 2, "longer": 2 * first}.get(again, first)
    for count in (1, 2):
        if again != "silent":
            agent.init({"timesteps": length})
        run(agent, length)
        assert before.items() <= stored(agent).items()
        total = first + count * length
        assert set(stored(agent)) == {f"agent_{step}" for step in range(2, total + 1, 2)}
    agent.close()
    assert list(keepfast.read_metrics(agent.experiment_dir)[TAG].steps) == list(range(2, total + 1, 2))


def test_an_evaluation_of_a_training_that_broke_off_is_counted_on_and_told(
    net: Callable[..., Net], tmp_path: Path
) -> None:
    """Where `init` tells of it, nothing needs to be told."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path, checkpoint_interval=5))
    run(agent, 100, until=20)
    before = stored(agent)
    with pytest.warns(keepfast.KeepfastWarning, match=r"19 is followed by the first one: .* counted on from 20"):
        run(agent, 100, until=10)
    assert before.items() <= stored(agent).items()
    agent.init({"timesteps": 50})
    run(agent, 50)
    assert before.items() <= stored(agent).items()
    assert "agent_80" in stored(agent)
    agent.close()


def test_the_end_of_a_later_pass_is_saved_and_can_be_resumed(net: Callable[..., Net], tmp_path: Path) -> None:
    """At its last timestep, which is no multiple of the interval; a resume counts on from there."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path, checkpoint_interval=4))
    run(agent, 6)
    run(agent, 6)
    assert list(stored(agent)) == ["agent_12", "agent_4", "agent_6", "agent_8"]
    assert agent.resume(agent.experiment_dir / "checkpoints" / "agent_8.safetensors") == 8
    agent.post_interaction(8, 6)
    assert agent.experiment.completed == 9
    agent.close()


def test_a_count_that_wavers_is_no_further_pass(net: Callable[..., Net], tmp_path: Path) -> None:
    """Of several actors that each count the same timesteps, none begins anew."""
    agent = PPO({"policy": net()}, cfg=cfg_in(tmp_path, checkpoint_interval=2))
    agent.init({"timesteps": 8})
    for timestep in (0, 1, 2, 0, 1, 3, 2, 4, 5, 6, 7, 5, 7):
        agent.post_interaction(timestep, 8)
    agent.close()
    assert set(stored(agent)) == {"agent_2", "agent_4", "agent_6", "agent_8"}
