"""Memories know what their environments do: which steps only reset, and where a run broke off."""

from __future__ import annotations

import abc
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import keepfast
from tests.both_backends.framework import Framework

NUM_ENVS, SIZE, STEPS = 2, 16, 10


def cartpole() -> Any:
    """Return CartPole cut at three steps, which no policy loses before."""
    return gymnasium.make("CartPole-v1", max_episode_steps=3)


class EnvironmentSuite(Framework):
    """Plays CartPole cut at three steps, whose vector environments reset in the fourth by default."""

    @abc.abstractmethod
    def memory(self, memory_size: int, num_envs: int) -> keepfast.Memory:
        """Return a memory of the backend."""

    @abc.abstractmethod
    def array(self, values: Any) -> Any:
        """Return an array of the framework."""

    def agent(self, directory: Path, **settings: Any) -> keepfast.Agent:
        cfg = {"directory": str(directory), "experiment_name": "run", "writers": ["jsonl"], "backend": self.backend}
        memory = self.memory(SIZE, NUM_ENVS)
        for name, size, dtype in (("steps", 1, "int32"), ("terminated", 1, "bool"), ("truncated", 1, "bool")):
            memory.create_tensor(name, size, dtype)
        agent = keepfast.Agent(memory=memory, cfg={"experiment": {**cfg, "checkpoint_interval": 5, **settings}})
        agent.checkpoint_modules["memory"] = memory
        return agent

    def play(self, agent: keepfast.Agent, envs: Any, steps: range) -> None:
        """Take steps, and have the agent and its memory record them, without a word on which are transitions."""
        for timestep in steps:
            _, rewards, terminated, truncated, _ = envs.step(np.zeros(NUM_ENVS, np.int64))
            agent.record_transition(None, None, rewards, None, terminated, truncated, {}, timestep, 100)
            agent.memory.add_samples(
                steps=self.array(np.full((NUM_ENVS, 1), timestep, np.int32)),
                terminated=self.array(terminated[:, None]),
                truncated=self.array(truncated[:, None]),
            )
            agent.post_interaction(timestep, 100)

    def drawn(self, memory: keepfast.Memory, length: int) -> set[tuple[int, ...]]:
        ((steps,),) = memory.sample(["steps"], 400, sequence_length=length)
        return set(map(tuple, np.asarray(steps).reshape(-1, length).tolist()))

    @pytest.mark.parametrize("mode", AutoresetMode)
    @pytest.mark.parametrize("through", ["agent", "register", "setting"])
    def test_a_memory_gives_no_resets(self, mode: AutoresetMode, through: str, tmp_path: Path) -> None:
        """An agent's own memory, or one registered, once the environment is given or the setting says it."""
        envs = SyncVectorEnv([cartpole] * NUM_ENVS, autoreset_mode=mode)
        agent = self.agent(tmp_path, **({"autoreset": mode.name.lower()} if through == "setting" else {}))
        if through == "register":
            agent.init({"timesteps": 100})
            agent.experiment.set_environment(envs)
        else:
            agent.init({"timesteps": 100}, env=None if through == "setting" else envs)
        envs.reset(seed=0)
        if mode is AutoresetMode.DISABLED:
            for start in (0, 3, 6):
                self.play(agent, envs, range(start, start + 3))
                envs.reset()
            self.play(agent, envs, range(9, 10))
        else:
            self.play(agent, envs, range(STEPS))
        resets = {3, 7} if mode is AutoresetMode.NEXT_STEP else set()
        ends = {2, 6} if resets else {2, 5, 8}
        transitions = sorted(set(range(STEPS)) - resets)
        ((steps,),) = agent.memory.sample_all(["steps"])
        assert np.asarray(steps)[:, 0].tolist() == [step for step in transitions for _ in range(NUM_ENVS)]
        assert self.drawn(agent.memory, 1) == {(step,) for step in transitions}
        pairs = {(step, step + 1) for step in range(STEPS - 1)}
        assert self.drawn(agent.memory, 2) == {pair for pair in pairs if pair[0] not in ends and not resets & {*pair}}
        agent.close()
        envs.close()

    def test_a_registered_memory_is_told(self, tmp_path: Path) -> None:
        """Also one that is registered after the environment was given, and of an experiment without an agent."""
        envs = SyncVectorEnv([cartpole] * NUM_ENVS)
        cfg = {"directory": str(tmp_path), "backend": self.backend, "writers": []}
        with keepfast.Experiment(cfg, env=envs) as experiment:
            memory = self.memory(SIZE, NUM_ENVS)
            memory.create_tensor("x", 1)
            experiment.register(memory=memory)
            assert (experiment.autoreset, memory.autoreset) == ("next_step", "next_step")
        envs.close()

    @pytest.mark.parametrize("cut", range(5, 10))
    def test_no_sequence_crosses_a_resume(self, cut: int, tmp_path: Path) -> None:
        """Environments are reset at its start, which no flag in the memory tells; what comes then is a transition."""
        settings = {"write_interval": 0, "checkpoint_interval": 1, "keep_best": 0}
        for steps in (range(cut), range(cut, STEPS + 3)):
            envs = SyncVectorEnv([cartpole] * NUM_ENVS)
            agent = self.agent(tmp_path, **settings)
            agent.init({"timesteps": 100}, env=envs)
            assert agent.resume() == steps.start
            envs.reset(seed=0)
            self.play(agent, envs, steps)
            agent.wait()
            envs.close()
            if steps.start == 0:
                agent.close()
        since = {step: (step if step < cut else step - cut) % 4 for step in range(STEPS + 3)}
        followed = {(step, step + 1) for step in since if since[step] < 2 and step + 1 not in (cut, STEPS + 3)}
        assert self.drawn(agent.memory, 2) == followed
        assert self.drawn(agent.memory, 1) == {(step,) for step, place in since.items() if place < 3}
        agent.close()

    @pytest.mark.parametrize("cut", range(5, 9))
    def test_a_memory_goes_on_with_episodes_that_continue(self, cut: int, tmp_path: Path) -> None:
        """Where environments go on, a resumed memory has the bits of one that was never cut, and knows its resets."""
        settings = {"write_interval": 0, "checkpoint_interval": 1, "running_episodes": "continue", "keep_best": 0}
        memories = []
        for name, breaks in (("whole", [0, STEPS]), ("cut", [0, cut, STEPS])):
            envs = SyncVectorEnv([cartpole] * NUM_ENVS)
            envs.reset(seed=0)
            for start, stop in pairwise(breaks):
                agent = self.agent(tmp_path / name, **settings)
                agent.init({"timesteps": 100}, env=envs)
                assert agent.resume() == start
                self.play(agent, envs, range(start, stop))
                agent.wait()
                memories.append(agent.memory.snapshot())
                agent.close()
            envs.close()
        whole, resumed = memories[0], memories[-1]
        assert whole.tensors.keys() == resumed.tensors.keys()
        for name, tensor in whole.tensors.items():
            np.testing.assert_array_equal(resumed.tensors[name], tensor, err_msg=name)
        assert resumed.seams == whole.seams == []
        assert whole.valid[:STEPS, 0].tolist() == [step % 4 != 3 for step in range(STEPS)]

    def test_an_evaluation_in_the_training_environment_is_told_of(self, tmp_path: Path) -> None:
        """`reset_episodes` reaches the agent's memory, so that no sequence goes from before it to behind it."""
        envs = SyncVectorEnv([cartpole] * NUM_ENVS)
        agent = self.agent(tmp_path, write_interval=1)
        agent.init({"timesteps": 100}, env=envs)
        envs.reset(seed=0)
        self.play(agent, envs, range(2))
        envs.reset(seed=1)
        agent.reset_episodes()
        self.play(agent, envs, range(2, 5))
        assert self.drawn(agent.memory, 2) == {(0, 1), (2, 3), (3, 4)}
        agent.close()
        lengths = keepfast.read_metrics(tmp_path / "run")["Episode / Total timesteps (max)"]
        assert (lengths.steps.tolist(), lengths.values.tolist()) == ([5], [3.0])
        envs.close()
