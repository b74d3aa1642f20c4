"""Every public call times every wrong argument: what is wrong is told in our own words, and nothing is lost by it.

The calls are found, not listed: the functions and classes that users import, the methods of what they hold, and what
they can set. Each parameter of each is given each wrong value once, the others being good; a call whose good values
nobody knows fails, so that a new one gets its row in `GOOD`.
"""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import inspect
import io
import os
import socket
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import keepfast
from keepfast import Agent, Experiment, Memory, MultiWriter, codec, hub, metrics, tree
from keepfast.plugins.backends import backend_of
from keepfast.plugins.formats import exporter_named, format_of
from tests.both_backends.undone import bits

Kind = Callable[[Path], Any]
"""Makes a wrong value, in a folder of its own."""


class Hostile:
    """Raises whatever it is asked."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("it raises whatever it is asked")

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __array__ = __index__ = __float__ = __fspath__ = _refuse
    __getitem__ = __contains__ = __eq__ = __ne__ = __lt__ = _refuse
    __hash__ = object.__hash__


def _hostile(kind: type, *kept: str) -> type:
    """Return a class below another that raises at whatever it is asked, but for some calls."""
    asked = {
        name: Hostile._refuse
        for name in dir(kind)
        if name[:2] == "__" and callable(getattr(kind, name)) and name not in {*_MADE_BY, *kept}
    }
    return type(f"Hostile{kind.__name__.title()}", (kind,), asked)


_MADE_BY = {"__new__", "__init__", "__class__", "__init_subclass__", "__subclasshook__", "__getattribute__", "__del__"}
"""What an object is made by, and asked whose it is."""


class HostilePath(type(Path())):  # type: ignore[misc]
    """Is a path, and raises when it is asked which."""

    __fspath__ = __str__ = __repr__ = __eq__ = Hostile._refuse
    __hash__ = object.__hash__


class Unapproachable:
    """Raises also when it is asked for any attribute, its class among them."""

    __getattribute__ = Hostile._refuse


def dead() -> Any:
    """Return a proxy of an object that is gone."""
    return weakref.proxy(Hostile())


class HostileMapping(Mapping[str, Any]):
    """Is a mapping by its class, and raises whatever it is asked."""

    __getitem__ = __iter__ = __len__ = Hostile._refuse


class HostileText(str):
    """Is text, and raises when it is shown."""

    __slots__ = ()
    __repr__ = Hostile._refuse


def _made(kind: type, _: Path) -> Any:
    hostile = _hostile(kind, "__array_finalize__")
    if kind is np.ndarray:
        return np.zeros(2).view(hostile)
    return hostile(
        {"a": 1.0} if kind is dict else [1.0] if kind in {list, tuple, set} else b"a" if kind is bytes else 1
    )


def in_itself(made: Any) -> Any:
    """Return a dict or list that contains itself."""
    if isinstance(made, dict):
        made["a"] = made
    else:
        made.append(made)
    return made


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def of_objects(*objects: Any) -> Any:
    made = np.empty(len(objects), object)
    for place, each in enumerate(objects):
        made[place] = each
    return made


def unreadable(folder: Path) -> Path:
    path = folder / "unreadable.pt"
    path.write_bytes(b"x")
    path.chmod(0)
    return path


def pipe(folder: Path) -> Path:
    path = folder / "pipe.npz"
    if not path.exists():
        os.mkfifo(path)
    return path


def bound_socket(folder: Path) -> Path:
    """Return the path of a socket; made where the working directory is, for its name may not be long."""
    path = folder / "socket.safetensors"
    if not path.exists():
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))
    return path


KINDS: dict[str, Kind] = {
    "None": lambda _: None,
    "NUL": lambda _: "a\0b",
    "a path with NUL": lambda _: Path("a\0b"),
    "a surrogate": lambda _: "a\ud800b",
    "a path with a surrogate": lambda _: Path("a\ud800b"),
    "no text": lambda _: "",
    "a word": lambda _: "banana",
    "a number in text": lambda _: "12",
    "a name of 300 characters": lambda _: "a" * 300,
    "a name of 300 characters with an extension": lambda folder: str(folder / f"{'a' * 300}.npz"),
    "a device that does not exist": lambda _: "cuda:99",
    "bytes": lambda _: b"agent.pt",
    "a directory": lambda folder: folder,
    "a file": lambda folder: folder / "file.txt",
    "below a file": lambda folder: folder / "file.txt" / "below.safetensors",
    "a file that cannot be read": unreadable,
    "a pipe": pipe,
    "a socket": bound_socket,
    "a file that is not there": lambda folder: folder / "missing" / "agent.pt",
    "an open file": lambda folder: (folder / "file.txt").open("rb"),
    "a dict in itself": lambda _: in_itself({}),
    "a list in itself": lambda _: in_itself([]),
    "a dict of numbers": lambda _: {1: 2},
    "a dict of objects": lambda _: {"a": object()},
    "an empty dict": lambda _: {},
    "900 nested lists": lambda _: nested(900),
    "a list of text": lambda _: ["a", "b"],
    "a list of NUL": lambda _: ["a\0b"],
    "a ragged list": lambda _: [[1.0], [1.0, 2.0]],
    "a generator": lambda _: (number for number in range(3)),
    "truth": lambda _: True,
    "a negative number": lambda _: -1,
    "a huge number": lambda _: 10**400,
    "a large number": lambda _: 2**63,
    "NaN": lambda _: float("nan"),
    "infinity": lambda _: float("inf"),
    "a complex number": lambda _: 1j,
    "an object": lambda _: object(),
    "a hostile object": lambda _: Hostile(),
    "a hostile mapping": lambda _: HostileMapping(),
    "hostile text": lambda _: HostileText("a"),
    **{f"a hostile {kind.__name__}": partial(_made, kind) for kind in (int, float, complex, str, bytes)},
    **{f"a hostile {kind.__name__}": partial(_made, kind) for kind in (dict, list, tuple, set, np.ndarray)},
    "a hostile path": lambda _: HostilePath("a"),
    "a dead proxy": lambda _: dead(),
    "an unapproachable object": lambda _: Unapproachable(),
    "a dict of a dead proxy": lambda _: {"a": dead()},
    "a list of a hostile int": lambda _: [_made(int, _)],
    "a dict of a hostile dict": lambda _: {"a": _made(dict, _)},
    "a dict of a hostile list": lambda _: {"a": _made(list, _)},
    "a dict with a hostile key": lambda _: {_hostile(str, "__hash__", "__eq__")("a"): 1.0},
    "a dict of a hostile object": lambda _: {"a": Hostile()},
    "a list of a hostile object": lambda _: [Hostile()],
    "a class": lambda _: Hostile,
    "a function": lambda _: in_itself,
    "an array of objects": lambda _: np.array([object()]),
    "an array of text": lambda _: np.array(["a"]),
    "an array of NaN": lambda _: np.full(2, np.nan),
    "no array": lambda _: np.zeros(0),
    "an array of many dimensions": lambda _: np.zeros((1,) * 9),
    "an array of two hostile objects": lambda _: of_objects(Hostile(), Hostile()),
    "an array of two texts": lambda _: np.array(["a", "b"]),
    "an array of two dates": lambda _: np.array(["2026-01-01", "2026-01-02"], "M8[D]"),
    "an array of two records": lambda _: np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "an array of two without bytes": lambda _: np.zeros(2, "V0"),
    "a masked array": lambda _: np.ma.masked_array([1.0, 2.0], [True, False]),
    "a column of truth": lambda _: np.array([[True], [False]]),
    "complex numbers": lambda _: np.zeros(2, complex),
    "a date": lambda _: np.datetime64("2026-01-01"),
}


class Place:
    """What calls need beside the argument that is wrong: a folder whose files stay, and objects."""

    def __init__(self, folder: Path, net: Callable[[], Any], memory: Callable[..., Memory], extension: str) -> None:
        self.folder, self.net, self.extension, self._memory_type = folder, net(), extension, memory
        (folder / "kept").mkdir()
        (folder / "file.txt").write_text("x")
        self.file = keepfast.save(net(), folder / "kept" / f"net{extension}")
        self.agent_file = Agent({"policy": net()}).save(folder / "kept" / f"agent{extension}")
        self.memory = memory(4, 2)
        self.memory.create_tensor("x", 1)
        self.memory.create_tensor("terminated", 1, self.memory.get_tensor_by_name("x").dtype)
        for row in range(3):
            self.memory.add_samples(x=np.full((2, 1), row, np.float32), terminated=np.zeros((2, 1), np.float32))
        self.samples = self.memory.save(folder / "kept", "npz")
        (folder / "kept" / "read.jsonl").write_text("")
        self.cfg = {"directory": str(folder / "runs"), "writers": ["jsonl"], "checkpoint_interval": 1, "wandb": False}
        self._open: list[Any] = []

    def make_memory(self, **options: Any) -> Memory:
        return self._memory_type(**options)

    def kept(self, made: Any) -> Any:
        self._open.append(made)
        return made

    @cached_property
    def experiment(self) -> Experiment:
        return self.kept(Experiment(self.cfg, modules={"policy": self.net}))

    @cached_property
    def agent(self) -> Agent:
        return self.kept(Agent({"policy": self.net}, self.memory, cfg=self.cfg))

    @cached_property
    def read_run(self) -> Path:
        with Experiment({**self.cfg, "experiment_name": "read"}) as run:
            run.log({"a": 1.0}, 1)
        return run.directory

    def state(self) -> dict[str, Any]:
        """Return what no refused call may change: the files that were there, the network and the memory."""
        files = {path.name: path.read_bytes() for path in (self.folder / "kept").iterdir()}
        shot = self.memory.snapshot()
        held = {name: tensor.tobytes() for name, tensor in shot.tensors.items()}
        return {**files, **bits({"net": self.net}), **held, "at": (shot.memory_index, shot.env_index, shot.filled)}

    def use(self) -> None:
        """Have what was taken written and stored."""
        for agent in [each for each in self._open if isinstance(each, Agent)]:
            agent.wait()
        for made in [each for each in self._open if isinstance(each, Experiment)]:
            for write in (made.write_tracking_data, made.write_checkpoint):
                with contextlib.suppress(keepfast.KeepfastError):
                    write(2)
            made.wait()

    def close(self) -> None:
        for made in self._open:
            with contextlib.suppress(keepfast.KeepfastError):
                made.close()


def setter(held: Any, name: str) -> Callable[[Any], None]:
    def set_to(value: Any) -> None:
        setattr(held, name, value)

    return set_to


def run_out(made: Any) -> None:
    """Run an iterator for a while, and close an object."""
    if isinstance(made, Iterator):
        list(islice(made, 3))
    if isinstance(made, Agent | Experiment | Memory | MultiWriter):
        made.close()


OF_THEIRS = {"tree.items", "Backend.place"}
"""Calls that return what they were given, or an iterator of it, which raises what that raises."""


def captured(at: Place) -> Any:
    """Return the network, or where its backend is a test's own, what the backend without a framework captures."""
    return at.net if type(backend_of(at.net, None)).__module__.startswith("keepfast") else {"a": np.zeros(2)}


def backend(at: Place) -> keepfast.Backend:
    """Return the backend of what is captured."""
    return backend_of(captured(at), None)


def first(at: Place) -> Any:
    """Return the first array of what is captured."""
    return next(tree.values(backend(at).capture(captured(at))))


Found = Callable[[Place], Callable[..., Any]]

SUBJECTS: dict[str, Callable[[Place], Any]] = {
    "Agent": lambda at: at.agent,
    "Experiment": lambda at: at.experiment,
    "Memory": lambda at: at.memory,
    "MultiWriter": lambda at: at.experiment.writer,
    "CheckpointStore": lambda at: format_of("checkpoint format", at.file),
    "MemoryExporter": lambda at: exporter_named("npz"),
    "MemorySnapshot": lambda at: at.memory.snapshot(),
    "LoadReport": lambda at: keepfast.load(at.net, at.file),
    "Backend": backend,
}
"""What users hold, whose methods are calls and whose settings can be set."""

MODULES = {"keepfast": keepfast, "metrics": metrics, "hub": hub, "codec": codec, "tree": tree}

WITHOUT = {
    "hookimpl": "marks the functions of plugins",
    "lazy": "names a factory of a plugin",
    "joined_steps": "is for step buffers, which get what Keepfast was given",
}
"""Calls without rows, each with the reason."""

FOR_PLUGINS = {
    *("CheckpointReader", "DirectoryFormat", "Ring", "Storage", "StepBuffer", "HostSteps", "SingleSteps"),
    *("Step", "Steps", "Writer", "WriterContext", "DemoSettings", "DemoResult", "Saving"),
}
"""What authors of plugins derive from or are given, and Keepfast calls; `Saving` is what each `Model` is."""

HELD = {
    *("Aggregate", "Checkpoint", "CheckpointContent", "CheckpointMetadata", "Conversion", "Converted"),
    *(
        "EpisodeAggregate",
        "FileEntries",
        "ForeignCheckpoint",
        "Interval",
        "MigratedEntry",
        "MigrationReport",
        "Mismatch",
    ),
}
"""Values without calls that take anything."""

INSIDE = {
    "CheckpointStore": {"read", "write", "writing", "check"},  # `save` and `load` call them with what they have checked
    "MemoryExporter": {"read", "write", "writing"},
    "MultiWriter": {"opened_by", "reopen", "refuse", "settle", "undo", "mute", "open", "load_state_dict", "state_dict"},
}
"""What Keepfast alone calls, and of `MultiWriter` what each writer has for it, as `write_...`; users call `add_...`."""


def _calls() -> dict[str, Found]:
    found: dict[str, Found] = {}
    for home, module in MODULES.items():
        for name in module.__all__:
            if inspect.isfunction(value := getattr(module, name)) and name not in WITHOUT:
                found[f"{home}.{name}"] = partial(lambda value, _: value, value)
    for name in ("Agent", "Experiment", "ExperimentConfig"):
        found[name] = partial(lambda value, _: value, getattr(keepfast, name))
    found["Memory"] = lambda at: type(at.memory)
    for name, subject in SUBJECTS.items():
        for called, value in inspect.getmembers(getattr(keepfast, name)):
            if called[0] == "_" or called in INSIDE.get(name, ()) or (name == "MultiWriter" and called[:6] == "write_"):
                continue
            if inspect.isfunction(value) and len(inspect.signature(value).parameters) > 1:
                found[f"{name}.{called}"] = partial(
                    lambda subject, called, at: getattr(subject(at), called), subject, called
                )
            elif isinstance(value, property) and value.fset is not None:
                found[f"{name}.{called} ="] = partial(
                    lambda subject, called, at: setter(subject(at), called), subject, called
                )
    return found


CALLS = _calls()

COUNTS = (1, 2, 3)

GOOD: dict[str, Callable[[Place], Any]] = {
    "after": lambda _: lambda: None,
    "agent": lambda _: "PPO",
    "batch_size": lambda _: 1,
    "box_tensor": lambda _: np.zeros((1, 4)),
    "bucket_counts": lambda _: [1, 2],
    "bucket_limits": lambda _: [1.0, 2.0],
    "callback": lambda _: lambda *_: None,
    "capacity": lambda _: 4,
    "checkpoint": lambda _: keepfast.Checkpoint({"a": np.zeros(2)}),
    "completed": lambda _: 3,
    "config": lambda _: {"lr": 1.0},
    "content": lambda _: keepfast.Checkpoint({"a": np.zeros(2)}),
    "directory": lambda at: at.folder / "out",
    "env": lambda _: None,
    "false_negative_counts": lambda _: COUNTS,
    "false_positive_counts": lambda _: COUNTS,
    "file": lambda _: io.BytesIO(),
    "figure": lambda _: None,
    "hparam_dict": lambda _: {"lr": 1.0},
    "img_tensor": lambda _: np.zeros((3, 2, 2)),
    "indexes": lambda _: [0],
    "labels": lambda _: [0, 1],
    "kind": lambda _: "file",
    "layout": lambda _: {"a": {"b": ["Multiline", ["c"]]}},
    "main_tag": lambda _: "a",
    "mat": lambda _: np.zeros((2, 2)),
    "max": lambda _: 1.0,
    "metric_dict": lambda _: {"a": 1.0},
    "min": lambda _: 0.0,
    "mode": lambda _: "train",
    "nbytes": lambda _: 1024,
    "model": lambda at: at.net,
    "module": lambda at: at.net,
    "name": lambda _: "x",
    "names": lambda _: ["x"],
    "num": lambda _: 3,
    "num_envs": lambda _: 2,
    "owner": lambda at: at,
    "path": lambda at: at.file,
    "pattern": lambda at: at.samples,
    "precision": lambda _: (0.1, 0.2, 0.3),
    "predictions": lambda _: [0.1, 0.9],
    "prototxt": lambda _: "graph.onnx",
    "recall": lambda _: (0.1, 0.2, 0.3),
    "repo_id": lambda _: "organisation/name",
    "rewards": lambda _: np.zeros(2),
    "run": lambda at: at.read_run,
    "run_or_checkpoint": lambda at: at.file,
    "run_or_tags": lambda _: ["Loss / Policy loss"],
    "scalar_value": lambda _: 1.0,
    "size": lambda _: 1,
    "snapshot": lambda at: at.memory.snapshot(),
    "snd_tensor": lambda _: np.zeros((1, 8)),
    "source": lambda at: at.samples,
    "state_dict": lambda at: at.memory.state_dict(),
    "step": lambda _: 1,
    "sum": lambda _: 1.0,
    "sum_squares": lambda _: 1.0,
    "tag": lambda _: "a",
    "tag_scalar_dict": lambda _: {"b": 1.0},
    "tags": lambda _: ["a", "b"],
    "target": lambda at: at.folder / "out.npz",
    "tensor": lambda _: np.zeros((4, 2, 1)),
    "tensors": lambda _: {"x": np.zeros((2, 1), np.float32)},
    "terminated": lambda _: np.zeros(2, bool),
    "text_string": lambda _: "text",
    "timestep": lambda _: 1,
    "timesteps": lambda _: 10,
    "to": lambda _: "jsonl",
    "true_negative_counts": lambda _: COUNTS,
    "true_positive_counts": lambda _: COUNTS,
    "truncated": lambda _: np.zeros(2, bool),
    "value": lambda _: 1.0,
    "values": lambda _: {"a": 1.0},
    "vertices": lambda _: np.zeros((1, 2, 3)),
    "vid_tensor": lambda _: np.zeros((1, 2, 3, 4, 4)),
    "write": lambda _: lambda file: file.write(b"x"),
    "observation_space": lambda _: 3,
    "action_space": lambda _: 2,
    "device": lambda _: None,
    **{f"Agent.record_transition.{name}": lambda _: None for name in ("states", "actions", "next_states", "infos")},
    "Agent.checkpoint_modules =.value": lambda at: {"policy": at.net},
    "Agent.cfg": lambda at: at.cfg,
    "Agent.migrate.options": lambda _: {},
    "Model.migrate.options": lambda _: {},
    "Model.migrate.path": lambda at: at.file,
    "Model.save.path": lambda at: at.folder / f"out{at.extension}",
    "Agent.load.path": lambda at: at.agent_file,
    "Agent.resume.which": lambda at: at.agent_file,
    "Agent.save.path": lambda at: at.folder / f"out{at.extension}",
    "CheckpointStore.remove.path": lambda at: at.folder / "missing",
    "CheckpointStore.save.path": lambda at: at.folder / f"out{at.extension}",
    "Experiment.cfg": lambda at: at.cfg,
    "Experiment.register.modules": lambda at: {"other": at.net},
    "Experiment.resume.which": lambda at: at.agent_file,
    "ExperimentConfig.directory": lambda at: str(at.folder),
    "Memory.autoreset =.value": lambda _: "next_step",
    "Memory.create_tensor.name": lambda _: "new",
    "Memory.env_index =.value": lambda _: 1,
    "Memory.export =.value": lambda _: False,
    "Memory.export_directory": lambda at: at.folder / "exports",
    "Memory.export_format": lambda _: "npz",
    "Memory.filled =.value": lambda _: False,
    "Memory.load.path": lambda at: at.samples,
    "Memory.memory_index =.value": lambda _: 1,
    "Memory.memory_size": lambda _: 4,
    "Memory.metadata =.value": lambda _: {},
    "Memory.replacement =.value": lambda _: True,
    "Memory.save.directory": lambda at: at.folder / "out",
    "Memory.save.format": lambda _: "npz",
    "MemoryExporter.load.path": lambda at: at.samples,
    "MemoryExporter.owns.path": lambda at: at.samples,
    "MemoryExporter.read.path": lambda at: at.samples,
    "MemoryExporter.remove.path": lambda at: at.folder / "missing",
    "MemoryExporter.save.content": lambda at: at.memory.snapshot(),
    "MemoryExporter.save.path": lambda at: at.folder / "out.npz",
    "MemoryExporter.writing.content": lambda at: at.memory.snapshot(),
    "MemoryExporter.wrote.path": lambda at: at.samples,
    "MultiWriter.add_histogram.values": lambda _: [1.0, 2.0],
    "MultiWriter.add_images.img_tensor": lambda _: np.zeros((1, 3, 2, 2)),
    "codec.array_bytes.array": lambda _: np.zeros(2),
    "codec.array_from_bytes.data": lambda _: bytes(8),
    "codec.array_from_bytes.dtype": lambda _: "float32",
    "codec.array_from_bytes.shape": lambda _: (2,),
    "codec.check_shape.shape": lambda _: (2,),
    "codec.decode.stored": lambda _: {"tuple": [1, 2]},
    "codec.dtype_of.name": lambda _: "float32",
    "codec.loads.text": lambda _: "[1]",
    "codec.native.array": lambda _: np.zeros(2),
    "codec.native.path": lambda _: "a",
    "codec.shaped.flat": lambda _: np.zeros(2),
    "codec.shaped.shape": lambda _: (2, 1),
    "tree": lambda _: {"a": [np.zeros(2), 1]},
    "tree.dtype_name.leaf": lambda _: np.zeros(2),
    "tree.first_repeated.values": lambda _: [1, 2, 1],
    "tree.map_leaves.change": lambda _: lambda _, leaf: leaf,
    "tree.rebuild.children": lambda _: [1],
    "tree.require_short_paths.most": lambda _: 100,
    "tree.with_versions.versions": lambda _: {},
    "leaf": lambda _: 1,
    "node": lambda _: [1],
    "own": lambda _: {"a": 1},
    "found": lambda _: {"a": 2},
    "Backend.aligned.state": lambda at: backend(at).capture(captured(at)),
    "Backend.aligned.names": lambda _: None,
    "Backend.aligned.saved": lambda _: None,
    "Backend.converted.file": lambda _: None,
    "Backend.exchange.payload": lambda _: b"x",
    "Backend.exchange.seconds": lambda _: 1.0,
    "Backend.fetch.held": lambda at: [backend(at).hold(first(at))],
    "Backend.hold.value": first,
    "Backend.host_copy.tree": lambda at: backend(at).capture(captured(at)),
    "Backend.mismatches.state": lambda at: backend(at).capture(captured(at)),
    "Backend.names.beside": lambda _: {},
    "Backend.outputs.observations": lambda _: np.zeros((1, 2), np.float32),
    "Backend.restore.state": lambda at: backend(at).host_copy(backend(at).capture(captured(at))),
    "Backend.set_random_state.state": lambda at: backend(at).random_state(),
    "Backend.step_buffer.step": lambda at: (first(at),) * 3,
    "array": first,
    "beside": lambda _: {},
    "steps": lambda _: 3,
    "versions": lambda _: None,
    "keepfast.attributes.names": lambda _: "folder",
    "keepfast.attribute.name": lambda _: "folder",
    "keepfast.commit.path": lambda at: at.folder / "out",
    "keepfast.iter_metrics.pattern": lambda at: at.read_run,
    "MultiWriter.add_custom_scalars_marginchart.tags": lambda _: ["a", "b", "c"],
    "keepfast.migrate.path": lambda at: at.file,
    "keepfast.read_memory.path": lambda at: at.samples,
    "keepfast.save.path": lambda at: at.folder / f"out{at.extension}",
    "metrics.iter_metrics.pattern": lambda at: at.read_run,
}
GOOD |= {f"{call}.module": captured for call in CALLS if call.startswith("Backend.")}
"""Good values of parameters that need one, by the parameter's name, or by the call's and the parameter's."""


def good(call: str, parameter: inspect.Parameter, at: Place) -> tuple[bool, Any]:
    """Return whether a parameter needs a value, and that."""
    for key in (f"{call}.{parameter.name}", parameter.name):
        if key in GOOD and (parameter.default is parameter.empty or key.startswith(call)):
            return True, GOOD[key](at)
    return False, None


def arguments(
    call: str, target: Callable[..., Any], at: Place, wrong: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return what a call is given: good values, but for those that are wrong."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    parameters = inspect.signature(target).parameters
    many = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())
    for name, parameter in parameters.items():
        given, value = (True, wrong[name]) if name in wrong else good(call, parameter, at)
        if not given or (wrong and INSTEAD.get((call, *wrong)) == name):
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(value)
        elif parameter.kind is parameter.POSITIONAL_ONLY or (many and parameter.kind is not parameter.KEYWORD_ONLY):
            positional.append(value)
        else:
            named[name] = value
    return positional, {**named, **{name: value for name, value in wrong.items() if name not in parameters}}


def slots(call: str, target: Callable[..., Any]) -> list[str]:
    """Return the names of what a call is given, by `KEYWORDS` where it takes any."""
    found: list[str] = []
    for name, parameter in inspect.signature(target).parameters.items():
        found += KEYWORDS.get(call, ("x",)) if parameter.kind is parameter.VAR_KEYWORD else [name]
    return found


INSTEAD = {("keepfast.migrate", "state_dict"): "path"}
"""What a parameter is given in the place of."""

KEYWORDS = {
    "Model.migrate": ("dry_run", "check", "strict", "layers", "flatten", "device"),
    "Agent.migrate": ("dry_run", "check", "strict", "layers", "flatten", "device"),
    "Memory": ("export", "export_format", "export_directory", "replacement", "export_keep"),
}
"""By which keywords a call that takes any gets the wrong values."""


CALLBACKS = {
    ("keepfast.commit", "write"),
    ("keepfast.convert_memory", "progress"),
    ("keepfast.merge_memories", "progress"),
    ("codec.encode", "put"),
    ("codec.decode", "get"),
    ("tree.map_leaves", "change"),
    ("Experiment.when_closed", "callback"),
    ("Experiment.when_durable", "callback"),
}
"""Parameters that are functions: what a function raises is its own."""

REFUSED = {
    "keepfast.attach": "no agent of another library is here",
    "hub.download_model_from_huggingface": "there is no network",
    "hub.pull": "there is no network",
    "hub.push": "there is no network",
    "Backend.converted": "the module here makes nothing of a file",
    "Backend.outputs": "not each module can be called",
    "Backend.remember": "not each backend has arrays that can be changed",
    "MultiWriter.add_figure": "there is no figure",
    "MultiWriter.add_graph": "only networks of PyTorch have a graph",
}
"""Calls that are refused with good values too, each with the reason."""


class EveryCallSuite(abc.ABC):
    """Gives each call of a framework each wrong value."""

    kinds: ClassVar[Mapping[str, Kind]] = KINDS
    extension: ClassVar[str]

    @abc.abstractmethod
    def net(self) -> Any:
        """Return a module."""

    @abc.abstractmethod
    def memory(self, *arguments: Any, **options: Any) -> Memory:
        """Return a memory."""

    @pytest.fixture
    def at(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
        """Return what calls need, in a working directory of its own, on a disk that nobody waits for."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(os, "fsync", lambda _: None)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        if importlib.util.find_spec("huggingface_hub"):
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place = Place(tmp_path, self.net, self.memory, self.extension)
            yield place
            place.close()

    @pytest.mark.parametrize("call", CALLS)
    def test_nothing_foreign_is_raised(self, call: str, at: Place) -> None:
        """A call takes what it is given, or raises a KeepfastError; a refusal changes nothing that there was."""
        self.check(call, CALLS[call](at), at)

    def check(self, call: str, target: Callable[..., Any], at: Place) -> None:
        """Give a call each wrong value for each of its parameters."""
        positional, named = arguments(call, target, at, {})
        if call not in REFUSED:
            run_out(target(*positional, **named))
        failed, wrong = [], {kind: make(at.folder) for kind, make in self.kinds.items()}
        before = at.state()
        for parameter in slots(call, target):
            for kind, value in wrong.items():
                if callable(value) and (call, parameter) in CALLBACKS:
                    continue
                positional, named = arguments(call, target, at, {parameter: value})
                try:
                    made = target(*positional, **named)
                    run_out(None if call in OF_THEIRS else made)
                except keepfast.KeepfastError:
                    if call != "Backend.restore" and at.state() != before:  # which is asked for what fits, or is undone
                        failed.append(f"{parameter} = {kind}: changed")
                except Exception as error:  # noqa: BLE001  (it is what is looked for)
                    if isinstance(error, OSError) and "OSError:" in (inspect.getdoc(target) or ""):
                        continue
                    failed.append(f"{parameter} = {kind}: {type(error).__name__}: {str(error)[:90]}")
                before = at.state()
        wrong["an open file"].close()
        at.use()
        assert not failed, "\n".join(failed)
        assert [path for path in at.folder.rglob("*") if "keepfast-tmp" in path.name] == []


def test_every_public_name_has_its_place() -> None:
    """It is called here, or is an error, a value or for plugins."""
    classes = {name for name in keepfast.__all__ if inspect.isclass(getattr(keepfast, name))}
    errors = {name for name in classes if issubclass(getattr(keepfast, name), BaseException)}
    called = {call.partition(".")[0] for call in CALLS}
    assert classes - errors - called - FOR_PLUGINS - HELD - WITHOUT.keys() == set()
