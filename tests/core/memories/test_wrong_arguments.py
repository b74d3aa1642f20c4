"""Nothing foreign is raised by a public call, whatever it is given: what is wrong is told in our own words."""

from __future__ import annotations

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
    """Return what calls need, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
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
