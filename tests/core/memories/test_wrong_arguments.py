"""Nothing foreign is raised by a public call, whatever it is given: what is wrong is told in our own words."""

from __future__ import annotations

import importlib.util
import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast import metrics

Net = Any


def circular() -> dict[str, Any]:
    made: dict[str, Any] = {"a": 1}
    made["self"] = made
    return made


def nested() -> list[Any]:
    made: list[Any] = []
    for _ in range(900):
        made = [made]
    return made


class Hostile:
    """Has no word for itself, and is equal to nothing."""

    def __repr__(self) -> str:
        return "Hostile()"


WRONG: dict[str, Callable[[Path], Any]] = {
    "NUL": lambda _: "a\0b",
    "a surrogate": lambda _: "a\ud800b",
    "an empty text": lambda _: "",
    "a long text": lambda _: "a" * 5000,
    "a path that is a directory": lambda folder: folder,
    "a path below a file": lambda folder: folder / "file.txt" / "below.pt",
    "an open file": lambda folder: (folder / "file.txt").open("rb"),
    "bytes": lambda _: b"agent.pt",
    "None": lambda _: None,
    "a number": lambda _: 5,
    "a negative number": lambda _: -1,
    "a huge number": lambda _: 10**400,
    "a number that is none": lambda _: float("nan"),
    "infinity": lambda _: float("inf"),
    "truth": lambda _: True,
    "a complex number": lambda _: 1j,
    "an object": lambda _: Hostile(),
    "a class": lambda _: Hostile,
    "a function": lambda _: circular,
    "a dict in itself": lambda _: circular(),
    "nested lists": lambda _: nested(),
    "a dict of numbers": lambda _: {1: 2},
    "a list of text": lambda _: ["a", "b"],
    "an array of objects": lambda _: np.array([object()]),
    "an array of text": lambda _: np.array(["a"]),
    "an empty array": lambda _: np.zeros(0),
    "a date": lambda _: np.datetime64("2026-01-01"),
}

Call = Callable[[Any, "Place"], object]


class Place:
    """What calls need beside the argument that is wrong."""

    def __init__(self, folder: Path, net: Callable[..., Net], memory: type[Any]) -> None:
        self.folder, self.net = folder, net
        (folder / "file.txt").write_text("x")
        self.cfg = {"directory": str(folder / "runs"), "writers": ["jsonl"], "checkpoint_interval": 1}
        self.file = keepfast.save(net(), folder / "net.pt")
        self.memory = memory(4, 2)
        self.memory.create_tensor("x", 1)
        self.memory.add_samples(x=np.zeros((2, 1), np.float32))
        self.samples = self.memory.save(folder / "samples", "npz")

    def experiment(self, **options: Any) -> Any:
        return keepfast.Experiment(self.cfg, **options)

    def agent(self, **options: Any) -> Any:
        return keepfast.Agent(**{"models": {"policy": self.net()}, "cfg": self.cfg, **options})


def closing(call: Callable[[Any], object], made: Any) -> object:
    """Call something with what was made, and close that."""
    try:
        return call(made)
    finally:
        made.close()


CALLS: dict[str, Call] = {
    "save: module": lambda wrong, at: keepfast.save(wrong, at.folder / "out.pt"),
    "save: path": lambda wrong, at: keepfast.save(at.net(), wrong),
    "load: module": lambda wrong, at: keepfast.load(wrong, at.file),
    "load: path": lambda wrong, at: keepfast.load(at.net(), wrong),
    "load: modules": lambda wrong, at: keepfast.load(at.net(), at.file, modules=wrong),
    "load: rename": lambda wrong, at: keepfast.load(at.net(), at.file, rename=wrong),
    "ExperimentConfig": lambda wrong, at: keepfast.ExperimentConfig(wrong),
    "ExperimentConfig: directory": lambda wrong, at: keepfast.ExperimentConfig(directory=wrong),
    "ExperimentConfig: writers": lambda wrong, at: keepfast.ExperimentConfig(writers=wrong),
    "Experiment: cfg": lambda wrong, at: closing(id, keepfast.Experiment({**at.cfg, "experiment_name": wrong})),
    "Experiment: name": lambda wrong, at: closing(id, at.experiment(name=wrong)),
    "Experiment: timesteps": lambda wrong, at: closing(id, at.experiment(timesteps=wrong)),
    "register": lambda wrong, at: closing(lambda run: run.register(module=wrong), at.experiment()),
    "track_data: tag": lambda wrong, at: closing(lambda run: run.track_data(wrong, 1.0), at.experiment()),
    "track_data: value": lambda wrong, at: closing(lambda run: run.track_data("Loss / Loss", wrong), at.experiment()),
    "step": lambda wrong, at: closing(lambda run: run.step(wrong), at.experiment()),
    "write_checkpoint": lambda wrong, at: closing(lambda run: run.write_checkpoint(wrong), at.experiment()),
    "write_tracking_data": lambda wrong, at: closing(lambda run: run.write_tracking_data(wrong), at.experiment()),
    "resume": lambda wrong, at: closing(lambda run: run.resume(wrong), at.experiment()),
    "record_transition: rewards": lambda wrong, at: closing(
        lambda run: run.record_transition(wrong, np.zeros(2), np.zeros(2)), at.experiment()
    ),
    "record_transition: terminated": lambda wrong, at: closing(
        lambda run: run.record_transition(np.zeros(2), wrong, np.zeros(2)), at.experiment()
    ),
    "reset_episodes": lambda wrong, at: closing(lambda run: run.reset_episodes(wrong), at.experiment()),
    "Agent: models": lambda wrong, at: closing(id, at.agent(models=wrong)),
    "Agent: memory": lambda wrong, at: id(at.agent(memory=wrong)),
    "Agent: cfg": lambda wrong, at: keepfast.Agent(cfg=wrong),
    "Agent: init": lambda wrong, at: closing(lambda agent: agent.init(wrong), at.agent()),
    "Agent: save": lambda wrong, at: at.agent().save(wrong),
    "Agent: load": lambda wrong, at: at.agent().load(wrong),
    "load: device": lambda wrong, at: keepfast.load(at.net(), at.file, device=wrong),
    "load: strict": lambda wrong, at: keepfast.load(at.net(), at.file, strict=wrong),
    "load: cast": lambda wrong, at: keepfast.load(at.net(), at.file, cast=wrong),
    "load: fit": lambda wrong, at: keepfast.load(at.net(), at.file, fit=wrong),
    "migrate: module": lambda wrong, at: keepfast.migrate(wrong, at.file),
    "migrate: path": lambda wrong, at: keepfast.migrate(at.net(), wrong),
    "migrate: state_dict": lambda wrong, at: keepfast.migrate(at.net(), state_dict=wrong),
    "migrate: name_map": lambda wrong, at: keepfast.migrate(at.net(), at.file, name_map=wrong),
    "migrate: check": lambda wrong, at: keepfast.migrate(at.net(), at.file, check=wrong),
    "migrate: layers": lambda wrong, at: keepfast.migrate(at.net(), at.file, layers=wrong),
    "migrate: reader": lambda wrong, at: keepfast.migrate(at.net(), at.file, reader=wrong),
    "migrate: device": lambda wrong, at: keepfast.migrate(at.net(), at.file, device=wrong),
    "read_checkpoint": lambda wrong, at: keepfast.read_checkpoint(wrong),
    "commit: path": lambda wrong, at: keepfast.commit(wrong, lambda file: file.write(b"x")),
    "commit: write": lambda wrong, at: keepfast.commit(
        at.folder / "committed",
        None if callable(wrong) else wrong,  # what a function raises is its own
    ),
    "begin_pass": lambda wrong, at: closing(
        lambda run: (run.set_timesteps(wrong), run.begin_pass()), at.experiment(timesteps=5)
    ),
    "set_timesteps": lambda wrong, at: closing(lambda run: run.set_timesteps(wrong), at.experiment()),
    "Agent: set_mode": lambda wrong, at: at.agent().set_mode(wrong),
    "Agent: enable_training_mode": lambda wrong, at: at.agent().enable_training_mode(wrong),
    "Agent: enable_models_training_mode": lambda wrong, at: at.agent().enable_models_training_mode(wrong),
    "set_environment": lambda wrong, at: closing(lambda run: run.set_environment(wrong), at.experiment()),
    "describe": lambda wrong, at: closing(lambda run: run.describe(wrong), at.experiment()),
    "improved_within": lambda wrong, at: closing(lambda run: run.improved_within(wrong), at.experiment()),
    "attach: agent": lambda wrong, at: keepfast.attach(wrong, at.cfg),
    "attach: cfg": lambda wrong, at: keepfast.attach(at.net(), wrong),
    "when_closed": lambda wrong, at: closing(lambda run: run.when_closed(wrong), at.experiment()),
    "when_exported": lambda wrong, at: at.memory.when_exported(wrong),
    "when_durable": lambda wrong, at: closing(lambda run: run.when_durable(wrong), at.experiment()),
    "log: values": lambda wrong, at: closing(lambda run: run.log(wrong), at.experiment()),
    "log: step": lambda wrong, at: closing(lambda run: run.log({"a": 1.0}, wrong), at.experiment()),
    "Experiment: env": lambda wrong, at: closing(id, at.experiment(env=wrong)),
    "Experiment: backend": lambda wrong, at: closing(id, keepfast.Experiment({**at.cfg, "backend": wrong})),
    "resume: modules": lambda wrong, at: closing(lambda run: run.resume(at.file, modules=wrong), at.experiment()),
    "resume: rename": lambda wrong, at: closing(lambda run: run.resume(at.file, rename=wrong), at.experiment()),
    "record_transition: valid": lambda wrong, at: closing(
        lambda run: run.record_transition(np.zeros(2), np.zeros(2), np.zeros(2), wrong), at.experiment()
    ),
    "Agent: device": lambda wrong, at: closing(id, at.agent(device=wrong)),
    "Agent: observation_space": lambda wrong, at: closing(lambda made: made.init(), at.agent(observation_space=wrong)),
    "Agent: init env": lambda wrong, at: closing(lambda agent: agent.init(env=wrong), at.agent()),
    "Agent: migrate": lambda wrong, at: at.agent().migrate(wrong),
    "Agent: resume": lambda wrong, at: closing(lambda agent: agent.resume(wrong), at.agent()),
    "Agent: log": lambda wrong, at: closing(lambda agent: agent.log(wrong), at.agent()),
    "Agent: track_data": lambda wrong, at: closing(lambda agent: agent.track_data(wrong, 1.0), at.agent()),
    "Agent: checkpoint_modules": lambda wrong, at: setattr(at.agent(), "checkpoint_modules", wrong),
    "Agent: set_running_mode": lambda wrong, at: at.agent().set_running_mode(wrong),
    "Agent: post_interaction": lambda wrong, at: closing(lambda agent: agent.post_interaction(wrong, 5), at.agent()),
    "Agent: post_interaction timesteps": lambda wrong, at: closing(
        lambda agent: agent.post_interaction(1, wrong), at.agent()
    ),
    "metrics.check: metrics": lambda wrong, at: metrics.check(wrong, "PPO"),
    "metrics.check: agent": lambda wrong, at: metrics.check({"Loss / Loss"}, wrong),
    "Memory: memory_size": lambda wrong, at: type(at.memory)(wrong, 2),
    "Memory: num_envs": lambda wrong, at: type(at.memory)(2, wrong),
    "Memory: export_format": lambda wrong, at: type(at.memory)(2, 2, export=True, export_format=wrong),
    "Memory: export_directory": lambda wrong, at: type(at.memory)(2, 2, export=True, export_directory=wrong),
    "memory.load: fit": lambda wrong, at: at.memory.load(at.samples, wrong),
    "sample: mini_batches": lambda wrong, at: at.memory.sample(["x"], 1, wrong),
    "sample: sequence_length": lambda wrong, at: at.memory.sample(["x"], 1, 1, wrong),
    "sample_all: names": lambda wrong, at: at.memory.sample_all(wrong),
    "sample_all: mini_batches": lambda wrong, at: at.memory.sample_all(["x"], wrong),
    "sample_by_index: mini_batches": lambda wrong, at: at.memory.sample_by_index(["x"], [0], wrong),
    "memory.reset_episodes": lambda wrong, at: at.memory.reset_episodes(wrong),
    "memory.restore": lambda wrong, at: at.memory.restore(wrong),
    "memory.load_state_dict": lambda wrong, at: at.memory.load_state_dict(wrong),
    "memory.belong_to": lambda wrong, at: at.memory.belong_to(wrong),
    "memory.autoreset": lambda wrong, at: setattr(at.memory, "autoreset", wrong),
    "memory.memory_index": lambda wrong, at: setattr(at.memory, "memory_index", wrong),
    "memory.env_index": lambda wrong, at: setattr(at.memory, "env_index", wrong),
    "set_tensor_by_name: name": lambda wrong, at: at.memory.set_tensor_by_name(wrong, np.zeros((4, 2, 1))),
    "hub.push": lambda wrong, at: keepfast.hub.push(wrong, wrong),
    "hub.pull": lambda wrong, at: keepfast.hub.pull(wrong, at.folder / "pulled"),
    "hub.download_model_from_huggingface": lambda wrong, at: keepfast.hub.download_model_from_huggingface(wrong),
    "device_capacity": lambda wrong, at: keepfast.device_capacity(wrong),
    "checked_places": lambda wrong, at: keepfast.checked_places(wrong, 4),
    "add_scalar: tag": lambda wrong, at: closing(lambda run: run.writer.add_scalar(wrong, 1.0, 1), at.experiment()),
    "add_scalar: value": lambda wrong, at: closing(lambda run: run.writer.add_scalar("a", wrong, 1), at.experiment()),
    "add_scalar: step": lambda wrong, at: closing(lambda run: run.writer.add_scalar("a", 1.0, wrong), at.experiment()),
    "read_metrics": lambda wrong, at: keepfast.read_metrics(wrong),
    "iter_metrics": lambda wrong, at: list(keepfast.iter_metrics(wrong)),
    "metrics.tags": lambda wrong, at: metrics.tags(wrong),
    "read_memory": lambda wrong, at: keepfast.read_memory(wrong),
    "iter_memories": lambda wrong, at: list(keepfast.iter_memories(wrong)),
    "convert_memory: source": lambda wrong, at: keepfast.convert_memory(wrong, at.folder / "out.npz"),
    "convert_memory: target": lambda wrong, at: keepfast.convert_memory(at.samples, wrong),
    "merge_memories": lambda wrong, at: keepfast.merge_memories(wrong, at.folder / "out.npz"),
    "attribute": lambda wrong, at: keepfast.attribute(at, wrong),
    "attributes": lambda wrong, at: keepfast.attributes(at, wrong),
    "create_tensor: name": lambda wrong, at: at.memory.create_tensor(wrong, 1),
    "create_tensor: size": lambda wrong, at: at.memory.create_tensor("y", wrong),
    "create_tensor: dtype": lambda wrong, at: at.memory.create_tensor("y", 1, wrong),
    "add_samples": lambda wrong, at: at.memory.add_samples(x=wrong),
    "add_samples: valid": lambda wrong, at: at.memory.add_samples(x=np.zeros((2, 1), np.float32), valid=wrong),
    "sample: names": lambda wrong, at: at.memory.sample(wrong, 1),
    "sample: batch_size": lambda wrong, at: at.memory.sample(["x"], wrong),
    "sample_by_index": lambda wrong, at: at.memory.sample_by_index(["x"], wrong),
    "get_tensor_by_name": lambda wrong, at: at.memory.get_tensor_by_name(wrong),
    "set_tensor_by_name": lambda wrong, at: at.memory.set_tensor_by_name("x", wrong),
    "memory.save: directory": lambda wrong, at: at.memory.save(wrong, "npz"),
    "memory.save: format": lambda wrong, at: at.memory.save(at.folder, wrong),
    "memory.load": lambda wrong, at: at.memory.load(wrong),
}


@pytest.fixture
def place(tmp_path: Path, net: Callable[..., Net], numpy_memory: type[Any], monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return what calls need, in a working directory of its own, on a disk that nobody waits for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    if importlib.util.find_spec("huggingface_hub"):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return Place(tmp_path, net, numpy_memory)


@pytest.fixture
def wrong_values(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Return each wrong value, and close the files among them."""
    (tmp_path / "file.txt").write_text("x")
    values = {name: make(tmp_path) for name, make in WRONG.items()}
    yield values
    for value in values.values():
        if hasattr(value, "close") and hasattr(value, "read"):
            value.close()


@pytest.mark.parametrize("name", CALLS)
def test_nothing_foreign_is_raised(name: str, place: Place, wrong_values: dict[str, Any]) -> None:
    """Each call is given each of 27 wrong values: it takes it, or raises a KeepfastError."""
    foreign = []
    for kind, value in wrong_values.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                CALLS[name](value, place)
            except keepfast.KeepfastError:
                continue
            except Exception as error:  # noqa: BLE001  (it is what is looked for)
                foreign.append(f"{kind}: {type(error).__name__}: {str(error)[:80]}")
    assert foreign == []


PUBLIC_CALLS = {
    name
    for name in keepfast.__all__
    if inspect.isfunction(getattr(keepfast, name)) and name not in {"hookimpl", "joined_steps", "lazy"}
}
"""Functions that users call; the others are for authors of plugins, who get what Keepfast gives them."""

OF_OBJECTS = {
    keepfast.Experiment: {"wait", "close", "state_dict"},
    keepfast.Agent: {"wait", "close", "pre_interaction"},
    keepfast.Memory: {"close", "get_sampling_indexes", "get_tensor_names", "reset", "snapshot", "state_dict", "wait"},
}
"""What users call methods of, and those that nothing is given to."""


def _methods(kind: type) -> set[str]:
    return {name for name, member in vars(kind).items() if name[0] != "_" and inspect.isfunction(member)}


def test_every_public_call_has_a_row() -> None:
    """A function at the root, and a method of what users hold, that takes an argument is in the table."""
    rows = {name.partition(":")[0].rpartition(".")[2].rpartition(" ")[2] for name in CALLS}
    rows |= {name.partition(": ")[2].partition(" ")[0] for name in CALLS if name.startswith("Agent: ")}
    wanted = PUBLIC_CALLS | {name for kind, given in OF_OBJECTS.items() for name in _methods(kind) - given}
    wanted |= {name for name in (*metrics.__all__, *keepfast.hub.__all__) if name[0].islower()}
    wanted -= {"agents", "catalogue", "load_catalogue"}  # they take nothing
    assert sorted(wanted - rows) == []
