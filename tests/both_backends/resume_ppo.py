"""The demo's PPO, interrupted and resumed, ends with the very same bits as one that never was."""

from __future__ import annotations

import abc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import keepfast
from keepfast.modules.registered import copy_all, registered
from keepfast.tree import flatten
from tests.both_backends.framework import Framework
from tests.both_backends.interrupted import TIMESTEPS, Interrupted, assert_same_bits, rows

STATES, ACTIONS = Box(-np.inf, np.inf, (4,), np.float32), Discrete(2)


@pytest.mark.filterwarnings("ignore:JsonlWriter does not keep histograms:keepfast.KeepfastWarning")
class ResumePpoSuite(Framework):
    """Trains in an environment whose states depend on the timestep alone, so that it needs no state of its own."""

    @abc.abstractmethod
    def ppo(self, cfg: dict[str, Any]) -> tuple[Any, Any]:
        """Return the demo's agent over `STATES` and `ACTIONS`, and its memory of 8 rows; seed all that is random."""

    def transition(self, timestep: int, actions: Any) -> SimpleNamespace:
        """Return what the environment answers."""
        num_envs = self.demo.NUM_ENVS
        rng = np.random.default_rng(timestep)
        states, next_states = rng.normal(size=(2, num_envs, 4)).astype(np.float32)
        rewards = (states[:, 0] * np.where(actions == 0, 1, -1)).astype(np.float32)
        ended = rng.random((2, num_envs)) < 0.1
        return SimpleNamespace(
            states=states, next_states=next_states, rewards=rewards, terminated=ended[0], truncated=ended[1]
        )

    def make_agent(self, directory: Path, **experiment: Any) -> Any:
        intervals = {"write_interval": 7, "checkpoint_interval": 10}
        own = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"]}
        own["running_episodes"] = "continue"  # what ends an episode here is the timestep, which comes back
        cfg = {"rollouts": 8, "learning_epochs": 2, "experiment": {**intervals, **own, **experiment}}
        agent, memory = self.ppo(cfg)
        agent.init(trainer_cfg={"timesteps": TIMESTEPS})
        agent.checkpoint_modules["memory"] = memory
        return agent

    def train(self, directory: Path, *, stop_at: int | None = None, **experiment: Any) -> Any:
        agent = self.make_agent(directory, **experiment)
        try:
            for timestep in range(agent.resume("latest"), TIMESTEPS):
                actions = agent.act(self.transition(timestep, np.zeros(self.demo.NUM_ENVS)).states)
                step = self.transition(timestep, actions)
                ended = (step.terminated, step.truncated)
                done = (step.states, actions, step.rewards, step.next_states, *ended, {})
                agent.record_transition(*done, timestep, TIMESTEPS)
                agent.post_interaction(timestep, TIMESTEPS)
                if timestep + 1 == stop_at:
                    raise Interrupted
        finally:
            agent.close()
        return agent

    @pytest.mark.slow
    @pytest.mark.parametrize("stop_at", [10, 37])
    def test_a_resumed_ppo_is_bit_identical(self, stop_at: int, tmp_path: Path) -> None:
        """Models, optimizer, preprocessor, memory and every tracked value equal those of an uninterrupted training."""
        whole = self.train(tmp_path / "whole")
        with pytest.raises(Interrupted):
            self.train(tmp_path / "cut", stop_at=stop_at)
        resumed = self.train(tmp_path / "cut")
        assert_same_bits(state_of(resumed), state_of(whole))
        assert rows(tmp_path / "cut") == rows(tmp_path / "whole")

    def test_a_memory_has_its_own_checkpoint_interval(self, tmp_path: Path) -> None:
        """`memory_checkpoint_interval` says which checkpoints hold the memory; the others resume without it."""
        checkpoints = self.train(tmp_path, memory_checkpoint_interval=20).experiment_dir / "checkpoints"
        held = {
            step: "memory" in keepfast.read_checkpoint(checkpoints / f"agent_{step}{self.extension}")
            for step in range(10, TIMESTEPS + 1, 10)
        }
        assert held == {10: False, 20: True, 30: False, 40: True, 50: False, 60: True}
        fresh = self.make_agent(tmp_path, memory_checkpoint_interval=20)
        with pytest.warns(keepfast.KeepfastWarning, match="timestep 50 does not hold the memory `memory`"):
            assert fresh.resume(checkpoints / f"agent_50{self.extension}") == 50
        fresh.close()


def state_of(agent: Any) -> dict[str, Any]:
    """Return the state of everything that the agent's checkpoints hold, flat."""
    return flatten(copy_all(registered(agent.checkpoint_modules, None)))
