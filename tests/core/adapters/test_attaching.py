"""Attaching: a stand-in for another library, whose agents get an experiment in one line."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest

import keepfast
from keepfast import plugins, testing
from keepfast.adapters import descends


class Learner:
    """An agent of a library that knows nothing of Keepfast: it walks, drawing from NumPy's global generator."""

    def __init__(self, seed: int = 3) -> None:
        np.random.seed(seed)  # noqa: NPY002  (as such libraries do)
        self.weights = np.zeros(3)
        self.momentum = np.zeros(3)
        self.callbacks: list[Callable[[Learner, int], object]] = []

    def learn(self, start: int, timesteps: int) -> None:
        for timestep in range(start, timesteps):
            self.momentum[:] = 0.9 * self.momentum + np.random.normal(size=3)  # noqa: NPY002
            self.weights += self.momentum
            for callback in list(self.callbacks):
                callback(self, timestep)


class Heir(Learner):
    """A user's own agent over the library's."""


@final
class LearnerAdapter(keepfast.Adapter):
    """What the page on adapters has, and some more."""

    library = "learners"

    def recognizes(self, agent: object) -> bool:
        return descends(agent, f"{__name__}.Learner")

    def configuration(self, agent: Any) -> dict[str, Any]:
        return {"momentum": 0.9, "experiment": {"write_interval": 4, "checkpoint_interval": 8, "writers": ["jsonl"]}}

    def attach(self, agent: Any, experiment: Any, env: Any = None) -> Callable[[], object]:
        if agent.weights.any():
            raise keepfast.UsageError("this learner has learned already")

        def callback(learner: Learner, timestep: int) -> None:
            experiment.track_data("Weights / First", learner.weights[0])
            experiment.step(timestep)

        experiment.register(weights=agent.weights, momentum=agent.momentum)
        agent.callbacks.append(callback)
        return lambda: agent.callbacks.remove(callback)


@final
class FormatAdapter(keepfast.Adapter):
    """One whose agents have a format of their own."""

    library = "learners"

    def recognizes(self, agent: object) -> bool:
        return descends(agent, f"{__name__}.Learner")

    def configuration(self, agent: Any) -> dict[str, Any]:
        return {"experiment": {"checkpoint_format": "pt"}}

    def attach(self, agent: Any, experiment: Any, env: Any = None) -> Callable[[], object]:
        return lambda: None


class TestLearnerAdapter(testing.AdapterContract):
    @pytest.fixture(params=[Learner, Heir])
    def subject(self, request: pytest.FixtureRequest) -> testing.AdapterSubject:
        return testing.AdapterSubject(
            LearnerAdapter(),
            make=lambda: (request.param(), None),
            train=lambda agent, _env, start, timesteps: agent.learn(start, timesteps),
            state=lambda agent: {"weights": agent.weights.copy(), "momentum": agent.momentum.copy()},
        )


def provided(**adapters: Any) -> SimpleNamespace:
    @keepfast.hookimpl
    def keepfast_adapters() -> Any:
        return adapters

    return SimpleNamespace(keepfast_adapters=keepfast_adapters)


@pytest.fixture
def registered() -> Iterator[Callable[..., None]]:
    """Return what registers adapters by hand, until the end of the test."""
    known = []

    def register(**adapters: Any) -> None:
        known.append(provided(**adapters))
        plugins.registry().register(known[-1], f"plugin-{len(known)}")

    yield register
    for each in known:
        plugins.registry().unregister(each)


def test_one_line_gives_an_agent_an_experiment(registered: Callable[..., None], tmp_path: Path) -> None:
    """What it tracks is written and what it is checkpointed, at the intervals that its own configuration has."""
    registered(learners=LearnerAdapter)
    agent = Heir()
    experiment = keepfast.attach(agent, {"directory": tmp_path, "writers": ["jsonl"], "checkpoint_interval": 16})
    agent.learn(0, 32)
    experiment.close()
    assert experiment.directory.name.endswith("_Heir")
    assert list(keepfast.read_metrics(experiment.directory)["Weights / First"].steps) == list(range(4, 33, 4))
    assert sorted(path.stem for path in (experiment.directory / "checkpoints").glob("agent_*")) == [
        "agent_16",
        "agent_32",
    ]
    content = keepfast.read_checkpoint(experiment.directory)
    np.testing.assert_array_equal(content["weights"], agent.weights)
    assert '"momentum": 0.9' in (experiment.directory / "config.json").read_text(encoding="utf-8")


def test_what_the_adapter_sets_in_vain_is_left_away(registered: Callable[..., None], tmp_path: Path) -> None:
    """Users are told of what they asked for in vain, and of nothing else."""
    registered(formats=FormatAdapter)
    cfg = {"directory": tmp_path, "writers": ["jsonl"], "checkpoint_interval": 0}
    keepfast.attach(Learner(), cfg, adapter="formats").close()
    with pytest.warns(keepfast.KeepfastWarning, match="`keep_last`"):
        keepfast.attach(Learner(), {**cfg, "keep_last": 2}, adapter="formats").close()


def test_an_agent_has_one_experiment_at_a_time(registered: Callable[..., None], tmp_path: Path) -> None:
    """Attaching it again is refused, and names the run, until that is closed."""
    registered(learners=LearnerAdapter)
    agent = Learner()
    with keepfast.attach(agent, {"directory": tmp_path, "experiment_name": "first"}):
        with pytest.raises(keepfast.UsageError, match="first"):
            keepfast.attach(agent, {"directory": tmp_path})
        assert len(agent.callbacks) == 1
    assert agent.callbacks == []
    keepfast.attach(agent, {"directory": tmp_path, "experiment_name": "second"}).close()


def test_an_adapter_that_refuses_leaves_no_run_behind(registered: Callable[..., None], tmp_path: Path) -> None:
    """Its error is raised, and the directory is free again."""
    registered(learners=LearnerAdapter)
    agent = Learner()
    agent.weights += 1
    for _ in range(2):
        with pytest.raises(keepfast.UsageError, match="learned already"):
            keepfast.attach(agent, {"directory": tmp_path, "experiment_name": "run"})


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        (
            SimpleNamespace(),
            "no adapter knows a `types.SimpleNamespace`; there are adapters of: .*learners",
        ),
        (Learner, "is a class; give the agent that you made of it"),
        (None, "no adapter knows a `builtins.NoneType`"),
    ],
)
def test_what_no_adapter_knows_is_refused(registered: Callable[..., None], agent: Any, told: str) -> None:
    """The error names the class, which adapters there are, and what else there is."""
    registered(learners=LearnerAdapter)
    with pytest.raises(keepfast.UnsupportedModule, match=told):
        keepfast.attach(agent)


def test_where_several_know_an_agent_one_is_named(registered: Callable[..., None], tmp_path: Path) -> None:
    """Two that know it are a conflict that names both; a name decides, and one that does not know it is told."""
    registered(learners=LearnerAdapter)
    registered(others=LearnerAdapter)
    agent = Learner()
    with pytest.raises(keepfast.PluginConflict, match=r"`learners` of plugin-1 and `others` of plugin-2.*adapter="):
        keepfast.attach(agent, {"directory": tmp_path})
    keepfast.attach(agent, {"directory": tmp_path}, adapter="others").close()
    with pytest.raises(keepfast.InvalidValue, match="the adapter `others` is of learners, and does not know a `random"):
        keepfast.attach(random.Random(1), adapter="others")
    with pytest.raises(keepfast.UnknownPlugin, match="learner"):
        keepfast.attach(agent, adapter="learner")


def test_an_agent_without_weak_references_is_attached_too(registered: Callable[..., None], tmp_path: Path) -> None:
    """One with slots, say."""

    class Slotted:
        __slots__ = ("callbacks", "momentum", "weights")

        def __init__(self) -> None:
            self.weights, self.momentum, self.callbacks = np.zeros(3), np.zeros(3), list[Any]()

    @final
    class SlottedAdapter(keepfast.Adapter):
        library = "slots"

        def recognizes(self, agent: object) -> bool:
            return isinstance(agent, Slotted)

        attach = LearnerAdapter.attach

    registered(slots=SlottedAdapter)
    agent, cfg = Slotted(), {"directory": tmp_path, "writers": ["jsonl"]}
    with keepfast.attach(agent, cfg), pytest.raises(keepfast.UsageError, match="attached to"):
        keepfast.attach(agent, cfg)


def test_the_functions_named_at_close_are_called_in_turn(tmp_path: Path) -> None:
    """The last one first, each once, though one raises; and the directory is free by then."""
    called: list[str] = []
    cfg = {"directory": tmp_path, "experiment_name": "run", "writers": ["jsonl"]}
    experiment = keepfast.Experiment(cfg)
    experiment.when_closed(lambda: called.append("first"))
    experiment.when_closed(lambda: 1 / 0)
    experiment.when_closed(lambda: keepfast.Experiment(cfg).close())
    with pytest.raises(keepfast.InvalidValue):
        experiment.when_closed("no function")  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        experiment.close()
    experiment.close()
    assert called == ["first"]
