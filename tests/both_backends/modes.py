"""Every public call, made within a mode of the framework: it has its right value, or says why it has none."""

from __future__ import annotations

import abc
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

import keepfast

Mode = Callable[[Callable[[Any], None]], None]
"""Calls what it is given once, within a mode, with a number of the framework that was made there."""


class World(abc.ABC):
    """Something to train, of one framework, with a memory beside it.

    Args:
        seed: what all its numbers come of.
        directory: where its run and its files go.
    """

    def __init__(self, seed: int, directory: Path) -> None:
        self.seed, self.directory = seed, directory
        self.begin(seed)
        self.memory = self.make_memory()
        self.memory.create_tensor("x", 2)
        for row in range(2):
            self.memory.add_samples(x=np.full((2, 2), seed + row, np.float32))
        self.train()

    @abc.abstractmethod
    def begin(self, seed: int) -> None:
        """Make what is trained."""

    @abc.abstractmethod
    def train(self) -> None:
        """Make a step of training, which depends on the state alone and changes all of it."""

    @abc.abstractmethod
    def modules(self) -> dict[str, Any]:
        """Return what is registered, without the memory."""

    @abc.abstractmethod
    def make_memory(self) -> Any:
        """Return a memory of four rows of two environments."""

    @abc.abstractmethod
    def array(self, values: Any) -> Any:
        """Return an array of the framework."""

    @abc.abstractmethod
    def seed_sampling(self) -> None:
        """Have the next samples of the memory be drawn the same way each time."""

    def observe(self) -> Any:
        """Return every bit there is."""
        return {**copied(self.modules()), "memory": self.memory.snapshot().tensors}

    def agent(self) -> keepfast.Agent:
        config = {
            "directory": str(self.directory),
            "experiment_name": "run",
            "writers": ["jsonl"],
            "write_interval": 2,
            "checkpoint_interval": 2,
            "async_checkpoints": False,
        }
        agent = keepfast.Agent(cfg={"experiment": config})
        agent.checkpoint_modules = {**self.modules(), "memory": self.memory}
        return agent

    def started(self) -> keepfast.Agent:
        agent = self.agent()
        agent.init({"timesteps": 10})
        return agent

    def written(self) -> list[Any]:
        """Return what the writer wrote, without the times."""
        lines = (self.directory / "run" / "metrics.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key != "wall_time"} for line in lines]


def copied(modules: Mapping[str, Any]) -> dict[str, Any]:
    from keepfast.modules.registered import copy_all, registered

    return copy_all(registered(modules, None))


@final
@dataclass(frozen=True)
class Call:
    """A public call.

    Attributes:
        make: makes the call, given a number that was made within the mode.
        after: returns what came of it, outside of the mode, training a step further where it is something to train.
    """

    make: Callable[[Any], Any]
    after: Callable[[], Any]


def track_data(world: World) -> Call:
    agent = world.started()

    def after() -> Any:
        agent.write_tracking_data(1)
        agent.close()
        return world.written()

    return Call(lambda number: agent.track_data("a", number), after)


def track_data_from_outside(world: World) -> Call:
    agent, outside = world.started(), world.array(2.5)

    def after() -> Any:
        agent.write_tracking_data(1)
        agent.close()
        return world.written()

    return Call(lambda _: agent.track_data("a", outside), after)


def add_scalar(world: World) -> Call:
    agent = world.started()

    def after() -> Any:
        agent.close()
        return world.written()

    return Call(lambda number: agent.writer.add_scalar("a", number, 3), after)


def record_transition(world: World) -> Call:
    agent = world.started()
    rewards, done, running = (world.array(part) for part in ([1.0, 2.0, 3.0], [True, False, True], [False] * 3))

    def record(_: Any = None) -> None:
        agent.record_transition(None, None, rewards, None, done, running, None, 0, 10)

    def after() -> Any:
        record()
        agent.write_tracking_data(1)
        agent.close()
        return world.written()

    return Call(record, after)


def record_another_transition(world: World) -> Call:
    call = record_transition(world)
    call.make(None)
    return call


def post_interaction(world: World) -> Call:
    agent = world.started()
    agent.track_data("a", world.array(1.0))
    rewards, done = world.array([1.0, 2.0]), world.array([False, False])
    for _ in range(40):
        agent.record_transition(None, None, rewards, None, done, done, None, 0, 10)

    def after() -> Any:
        agent.close()
        other = type(world)(2, world.directory)
        resumed = other.started()
        timestep = resumed.resume()
        resumed.close()
        other.train()
        return timestep, other.observe(), world.written()

    return Call(lambda _: agent.post_interaction(1, 10), after)


def save(world: World) -> Call:
    path = world.directory / "agent.safetensors"

    def after() -> Any:
        other = type(world)(2, world.directory)
        other.agent().load(path)
        other.train()
        return other.observe()

    return Call(lambda _: world.agent().save(path), after)


def load(world: World) -> Call:
    path = type(world)(2, world.directory).agent().save(world.directory / "agent.safetensors")

    def after() -> Any:
        world.train()
        return world.observe()

    return Call(lambda _: world.agent().load(path), after)


def load_onto_a_device(world: World) -> Call:
    path = keepfast.save(type(world)(2, world.directory).modules(), world.directory / "modules.safetensors")

    def after() -> Any:
        world.train()
        return world.observe()

    return Call(lambda _: keepfast.load(world.modules(), path, "cpu"), after)


def resume(world: World) -> Call:
    np.random.seed(3)  # noqa: NPY002  (the global generator is among what is resumed)
    agent = type(world)(2, world.directory).started()
    agent.write_checkpoint(4)
    agent.close()
    resumed = world.started()

    def after() -> Any:
        resumed.close()
        drawn = np.random.rand(3)  # noqa: NPY002  (as above)
        world.train()
        return drawn, world.observe()

    return Call(lambda _: resumed.resume(), after)


def register(world: World) -> Call:
    experiment = keepfast.Experiment({"directory": str(world.directory), "writers": []})
    return Call(lambda _: experiment.register(**world.modules()), experiment.close)


def make_memory(world: World) -> Call:
    made: list[Any] = []

    def make(_: Any) -> None:
        memory = world.make_memory()
        memory.create_tensor("x", 2, "float32")
        made.append(memory)

    def after() -> Any:
        made[-1].add_samples(x=world.array([[1.0, 2.0], [3.0, 4.0]]))
        return made[-1].snapshot().tensors

    return Call(make, after)


def add_samples(world: World) -> Call:
    samples = world.array([[1.0, 2.0], [3.0, 4.0]])

    def after() -> Any:
        world.memory.add_samples(x=samples)
        return world.memory.snapshot().tensors

    return Call(lambda _: world.memory.add_samples(x=samples), after)


def add_a_sample(world: World) -> Call:
    sample = world.array([1.0, 2.0])

    def after() -> Any:
        world.memory.add_samples(x=sample)
        return world.memory.snapshot().tensors

    return Call(lambda _: world.memory.add_samples(x=sample), after)


def sample(world: World) -> Call:
    world.seed_sampling()
    found: list[Any] = []

    def make(_: Any) -> None:
        memory = world.memory
        everything, tensor = memory.sample_all(["x"])[0][0], memory.get_tensor_by_name("x")
        found.extend([*memory.sample(["x"], 4)[0], *memory.sample(["x"], 4, 1, 2)[0], everything, tensor])

    def after() -> Any:
        world.memory.add_samples(x=world.array([[1.0, 2.0], [3.0, 4.0]]))
        return [part.shape for part in found], float(found[0].sum()), world.memory.snapshot().tensors

    return Call(make, after)


def save_memory(world: World) -> Call:
    saved: list[Path] = []

    def after() -> Any:
        memory = world.make_memory()
        memory.load(saved[-1])
        return memory.snapshot().tensors

    return Call(lambda _: saved.append(world.memory.save(world.directory / "memory")), after)


def load_memory(world: World) -> Call:
    path, memory = world.memory.save(world.directory / "memory"), world.make_memory()

    def after() -> Any:
        memory.add_samples(x=world.array([[1.0, 2.0], [3.0, 4.0]]))
        return memory.snapshot().tensors

    return Call(lambda _: memory.load(path), after)


CALLS: dict[str, Callable[[World], Call]] = {
    call.__name__: call
    for call in (
        *(track_data, track_data_from_outside, add_scalar, record_transition, record_another_transition),
        *(post_interaction, save, load, load_onto_a_device, resume, register),
        *(make_memory, add_samples, add_a_sample, sample, save_memory, load_memory),
    )
}
"""Every public call that meets arrays."""

GIVEN = frozenset({"track_data", "add_scalar"})
"""Those that are given what was made within the mode, which may have no value there."""


def plain(found: Any) -> Any:
    """Return what came of a call in a form that is equal if it is the same."""
    if isinstance(found, np.ndarray | np.generic):
        return str(found.dtype), found.shape, found.tobytes()
    if isinstance(found, Mapping):
        return {str(key): plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [plain(value) for value in found]
    return repr(found)


def outcome(world: World, mode: Mode, call: str) -> Any:
    """Return what comes of a call within a mode, or the error by which it was refused."""
    made = CALLS[call](world)
    try:
        mode(made.make)
    except Exception as error:
        refusal = next((each for each in causes(error) if isinstance(each, keepfast.KeepfastError)), None)
        if refusal is None:
            raise
        return refusal
    return plain(made.after())


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came of: a mode may wrap what is raised in it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
