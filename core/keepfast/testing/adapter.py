"""The contract of an Adapter."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pytest

from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.config import LEVEL
from keepfast.experiment import Experiment
from keepfast.interfaces.adapter import Adapter
from keepfast.metrics.reading import read_metrics
from keepfast.testing.checkpoint_store import assert_same
from keepfast.tree import Tree

_FOREIGN: tuple[Any, ...] = (None, True, 3, "agent", object(), len, int, Path("agent.pt"), {}, [])


@final
@dataclass(frozen=True)
class AdapterSubject:
    """What an adapter is proven with.

    Attributes:
        adapter: the adapter.
        make: makes an agent and its environment (None where the agent has its own), as users of the library do; each
            time the same, random generators seeded anew.
        train: ``train(agent, env, start, timesteps)`` trains it as users do, from a timestep on to the end of a
            training of so many.
        state: returns all that training changes in an agent, as a tree of NumPy arrays and numbers.
        timesteps: the length of the training, an even number; a checkpoint is taken in the middle.
        settings: further settings of the experiment.
    """

    adapter: Adapter
    make: Callable[[], tuple[Any, Any]]
    train: Callable[[Any, Any, int, int], object]
    state: Callable[[Any], Tree]
    timesteps: int = 32
    settings: dict[str, Any] | None = None

    def attached(self, agent: Any, env: Any, directory: Path, name: str = "run") -> Experiment:
        """Return the experiment of an agent, attached as `keepfast.attach` does."""
        half = self.timesteps // 2
        settings = {"directory": directory, "experiment_name": name, "checkpoint_interval": half}
        experiment = Experiment(
            {
                **self.adapter.configuration(agent),
                LEVEL: {**settings, "write_interval": max(half // 2, 1), "writers": ["jsonl"], **(self.settings or {})},
            },
            name=self.adapter.name(agent),
            env=env,
            device=self.adapter.device(agent),
        )
        experiment.when_closed(self.adapter.attach(agent, experiment, env))
        return experiment

    def trained(self, directory: Path) -> tuple[Any, Experiment]:
        """Return an agent that was trained attached, with its experiment, all of it on disk and not closed."""
        agent, env = self.make()
        experiment = self.attached(agent, env, directory)
        self.train(agent, env, 0, self.timesteps)
        experiment.wait()
        return agent, experiment


class AdapterContract(abc.ABC):
    """Proves an adapter; inherit it, name the class ``Test...``, and give the fixture `subject`.

    Give the fixture parameters to prove several kinds of agents.

    Example::

        class TestExampleAdapter(keepfast.testing.AdapterContract):
            @pytest.fixture
            def subject(self):
                return keepfast.testing.AdapterSubject(ExampleAdapter(), make, train, state)
    """

    @pytest.fixture
    @abc.abstractmethod
    def subject(self) -> AdapterSubject:
        """Return what the adapter is proven with."""

    def test_its_agents_are_known_and_nothing_else(self, subject: AdapterSubject) -> None:
        """Of an agent the answer is yes, of its class and of anything else no, and never an error."""
        agent, env = subject.make()
        assert subject.adapter.recognizes(agent)
        assert [each for each in (*_FOREIGN, type(agent), env) if subject.adapter.recognizes(each)] == []
        assert isinstance(type(subject.adapter).library, str)
        assert subject.adapter.name(agent)

    def test_neither_the_class_nor_the_results_change(self, subject: AdapterSubject, tmp_path: Path) -> None:
        """An attached agent is of the class it was of, and becomes, bit for bit, what it becomes without."""
        alone, env = subject.make()
        subject.train(alone, env, 0, subject.timesteps)
        other, other_env = subject.make()
        kind, methods = type(other), dict(vars(type(other)))
        with subject.attached(other, other_env, tmp_path):
            subject.train(other, other_env, 0, subject.timesteps)
            assert type(other) is kind
            assert dict(vars(kind)) == methods
        assert_same(subject.state(other), subject.state(alone))

    def test_what_it_tracks_is_written(self, subject: AdapterSubject, tmp_path: Path) -> None:
        """At the interval, with the completed timesteps; among it what the agent's episodes or losses are."""
        _, experiment = subject.trained(tmp_path)
        with experiment:
            found = read_metrics(experiment.directory)
        steps = {step for each in found.values() for step in each.steps}
        assert found
        assert max(steps) == subject.timesteps
        assert all(0 < step <= subject.timesteps for step in steps)

    def test_checkpoints_are_taken_at_the_interval(self, subject: AdapterSubject, tmp_path: Path) -> None:
        """One in the middle, and one at the end."""
        _, experiment = subject.trained(tmp_path)
        with experiment:
            assert experiment.completed == subject.timesteps
        assert _steps(experiment.directory) == [subject.timesteps // 2, subject.timesteps]

    def test_a_resumed_agent_becomes_the_uninterrupted_one(self, subject: AdapterSubject, tmp_path: Path) -> None:
        """A fresh one that resumes from the middle ends, bit for bit, as the one that went through."""
        agent, experiment = subject.trained(tmp_path / "through")
        with experiment:
            through = subject.state(agent)
        half = subject.timesteps // 2
        (taken,) = (experiment.directory / "checkpoints").glob(f"agent_{half}.*")
        other, env = subject.make()
        with subject.attached(other, env, tmp_path / "resumed") as resumed:
            assert resumed.resume(taken) == half
            subject.train(other, env, half, subject.timesteps)
            assert resumed.completed == subject.timesteps
        assert_same(subject.state(other), through)

    def test_it_lets_the_agent_go_at_close(self, subject: AdapterSubject, tmp_path: Path) -> None:
        """A closed experiment leaves nothing on the agent, which trains on as if it had never been attached."""
        agent, env = subject.make()
        before = {name for name in vars(agent) if callable(vars(agent)[name])}
        experiment = subject.attached(agent, env, tmp_path)
        experiment.close()
        assert {name for name in vars(agent) if callable(vars(agent)[name])} == before
        subject.train(agent, env, 0, subject.timesteps)
        assert _steps(experiment.directory) == []


def _steps(directory: Path) -> list[int]:
    """Return the timesteps of a run's periodic checkpoints."""
    listed = CheckpointDirectory(directory / "checkpoints").checkpoints()
    return sorted({each.timestep for each in listed if not each.best and each.timestep is not None})
