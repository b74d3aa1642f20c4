"""The demo's PPO on PyTorch, interrupted and resumed, ends with the very same bits as one that never was."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gymnasium")

from gymnasium.spaces import Box, Discrete  # noqa: E402

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402
from keepfast.modules.registered import copy_all, registered  # noqa: E402
from keepfast.tree import flatten  # noqa: E402
from keepfast_torch.demo import NUM_ENVS, PPO, network  # noqa: E402

TIMESTEPS = 60
STATES = Box(-np.inf, np.inf, (4,), np.float32)


class Interrupted(Exception):
    pass


def transition(timestep: int, actions: Any) -> SimpleNamespace:
    """Return what an environment gives whose next state depends on the timestep alone, so that it needs no state."""
    rng = np.random.default_rng(timestep)
    states, next_states = rng.normal(size=(2, NUM_ENVS, 4)).astype(np.float32)
    rewards = (states[:, 0] * np.where(actions == 0, 1, -1)).astype(np.float32)
    ended = rng.random((2, NUM_ENVS)) < 0.1
    return SimpleNamespace(
        states=states, next_states=next_states, rewards=rewards, terminated=ended[0], truncated=ended[1]
    )


def make_agent(directory: Path, **experiment: Any) -> PPO:
    torch.manual_seed(0)
    models = {"policy": network(4, 2, 0.01), "value": network(4, 1, 1.0)}
    memory = keepfast_torch.RandomMemory(8, NUM_ENVS)
    intervals = {"write_interval": 7, "checkpoint_interval": 10}
    # What ends an episode here is the timestep, which comes back.
    settings = {
        **intervals,
        "running_episodes": "continue",
        "directory": str(directory),
        "experiment_name": "run",
        "writers": ["jsonl"],
        **experiment,
    }
    cfg = {
        "rollouts": 8,
        "learning_epochs": 2,
        "experiment": {"write_interval": 7, "checkpoint_interval": 10, **settings},
    }
    agent = PPO(models, memory, STATES, Discrete(2), None, cfg)
    agent.init(trainer_cfg={"timesteps": TIMESTEPS})
    agent.checkpoint_modules["memory"] = memory
    return agent


def train(directory: Path, *, stop_at: int | None = None, **experiment: Any) -> PPO:
    agent = make_agent(directory, **experiment)
    try:
        for timestep in range(agent.resume("latest"), TIMESTEPS):
            actions = agent.act(transition(timestep, np.zeros(NUM_ENVS)).states)
            step = transition(timestep, actions)
            agent.record_transition(
                step.states,
                actions,
                step.rewards,
                step.next_states,
                step.terminated,
                step.truncated,
                {},
                timestep,
                TIMESTEPS,
            )
            agent.post_interaction(timestep, TIMESTEPS)
            if timestep + 1 == stop_at:
                raise Interrupted
    finally:
        agent.close()
    return agent


def rows(directory: Path) -> list[tuple[int, dict[str, float]]]:
    lines = (directory / "run" / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["scalars"]) for row in map(json.loads, lines) if "scalars" in row]


def state_of(agent: PPO) -> dict[str, Any]:
    return flatten(copy_all(registered(agent.checkpoint_modules, None)))


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [10, 37])
def test_a_resumed_ppo_is_bit_identical(stop_at: int, tmp_path: Path) -> None:
    """Models, optimizer, preprocessor, memory and every tracked value equal those of an uninterrupted training."""
    whole = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", stop_at=stop_at)
    resumed = train(tmp_path / "cut")

    assert state_of(resumed).keys() == state_of(whole).keys()
    for path, expected in state_of(whole).items():
        np.testing.assert_array_equal(state_of(resumed)[path], expected, err_msg=path)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_memory_has_its_own_checkpoint_interval(tmp_path: Path) -> None:
    """`memory_checkpoint_interval` says which checkpoints hold the memory; the others resume without it."""
    agent = train(tmp_path, memory_checkpoint_interval=20)
    held = {
        step: "memory" in torch.load(agent.experiment_dir / "checkpoints" / f"agent_{step}.pt", weights_only=True)
        for step in range(10, TIMESTEPS + 1, 10)
    }
    assert held == {10: False, 20: True, 30: False, 40: True, 50: False, 60: True}
    fresh = make_agent(tmp_path, memory_checkpoint_interval=20)
    with pytest.warns(keepfast.KeepfastWarning, match="timestep 50 does not hold the memory `memory`"):
        assert fresh.resume(agent.experiment_dir / "checkpoints" / "agent_50.pt") == 50
    fresh.close()
