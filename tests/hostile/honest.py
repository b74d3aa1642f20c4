"""Honest files of every format that is read, small ones, as the fuzz begins with them."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from keepfast.errors import MissingDependency
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.metrics.tfrecord import frame
from keepfast.plugins.discovery import registry
from tests.hostile import episodes
from tests.hostile.making import archive, npy, safetensors, tensor, text

Place = Callable[[Path, bytes], Path]
"""Puts content into a directory, which may be of an earlier file, and returns what is to be read there."""


@final
@dataclass(frozen=True)
class Honest:
    """A file that is whole.

    Attributes:
        name: what it is called.
        reader: how it is read, by a name of `tests.hostile.doors`.
        content: what is changed of it.
        place: puts that where it is read.
        sealed: whether Keepfast sealed it, so that no change of it may go unnoticed.
        is_pickle: whether the content is a pickle.
    """

    name: str
    reader: str
    content: bytes
    place: Place
    sealed: bool = False
    is_pickle: bool = False


def file(name: str) -> Place:
    """Return what puts the content into a file of that name."""

    def put(directory: Path, content: bytes) -> Path:
        (path := directory / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return put


def within(folder: str, name: str, others: dict[str, bytes] | None = None) -> Place:
    """Return what puts the content into a folder that is read as a whole, beside others."""

    def put(directory: Path, content: bytes) -> Path:
        for each, beside in {**(others or {}), name: content}.items():
            file(f"{folder}/{each}")(directory, beside)
        return directory / folder

    return put


STATE = {
    "policy": {"net.0.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "net.0.bias": np.ones(3, np.float32)},
    "value": {"count": 3, "name": "x" * 40, "nested": [(1, 2.5), {"a": None, "b": True}]},
}
METADATA = {"timestep": 40, "time": 1.5, "modules": ["policy", "value"], "backend": None}
TENSORS = {
    "observations": np.arange(48, dtype=np.float32).reshape(8, 2, 3),
    "actions": np.arange(16, dtype=np.int64).reshape(8, 2, 1),
    "rewards": np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2, 1),
    "terminated": np.arange(16).reshape(8, 2, 1) % 5 == 4,
    "truncated": np.arange(16).reshape(8, 2, 1) % 7 == 6,
}
EVENT = b"\x10\x07\x2a\x0a\x0a\x08\x0a\x01a\x15" + np.float32(2.5).tobytes()
LINES = b"".join(
    json.dumps({"step": step, "wall_time": 1.0, "scalars": {"Loss / value": step / 7, "Reward / mean": 1.0}}).encode()
    + b"\n"
    for step in range(5)
)
CONFIG = json.dumps({"agent": "PPO", "timesteps": 10, "config": {"experiment": {"best_metric": "x"}, "lr": 1e-3}})


def honest(directory: Path) -> Iterator[Honest]:
    """Yield the files of every format that this environment reads."""
    yield from _checkpoints(directory)
    yield from _memories(directory)
    yield from _of_minari()
    yield from _of_runs()
    yield from _of_others(directory)


def _checkpoints(directory: Path) -> Iterator[Honest]:
    for name, extension in [
        ("pt", ".pt"),
        ("safetensors", ".safetensors"),
        ("msgpack", ".msgpack"),
        ("pickle", ".pickle"),
    ]:
        path = directory / f"made{extension}"
        try:
            registry().get("checkpoint format", name)().save(Checkpoint(STATE, METADATA), path)
        except MissingDependency:
            continue
        yield Honest(f"checkpoint.{name}", "checkpoint", path.read_bytes(), file(f"x{extension}"), sealed=True)


def _memories(directory: Path) -> Iterator[Honest]:
    for name in ("pt", "npz", "safetensors", "csv", "parquet", "minari"):
        path = directory / f"memory.{name}"
        try:
            registry().get("memory format", name)().save(MemorySnapshot(TENSORS, 3, 0, filled=True), path)
        except MissingDependency:
            continue
        yield from _memory(name, path)


def _memory(name: str, path: Path) -> Iterator[Honest]:
    if name == "minari":
        parts = {each.name: each.read_bytes() for each in path.iterdir()}
        for part, content in parts.items():
            yield Honest(f"memory.minari/{part}", "memory", content, within("dataset", part, parts), sealed=True)
        return
    if name == "csv":
        beside = path.with_name(path.name + ".json").read_bytes()
        both = within("csv", "x.csv", {"x.csv.json": beside})
        yield Honest(
            "memory.csv", "memory", path.read_bytes(), lambda at, content: both(at, content) / "x.csv", sealed=True
        )
        rows = path.read_bytes()
        told = within("csv", "x.csv.json", {"x.csv": rows})
        yield Honest("memory.csv.json", "memory", beside, lambda at, content: told(at, content) / "x.csv")
        yield Honest("foreign.csv", "memory", rows, file("alone.csv"))
        return
    sealed = name != "parquet"
    yield Honest(f"memory.{name}", "memory", path.read_bytes(), file(f"m.{name}"), sealed=sealed)


def _of_minari() -> Iterator[Honest]:
    for kind, write in episodes.WRITE.items():
        try:
            files = episodes.parts(kind, write(episodes.table()))
        except ModuleNotFoundError:
            continue
        for name, content in files.items():
            yield Honest(f"foreign.minari.{kind}/{name}", "memory", content, within(f"of {kind}", name, files))


def _of_runs() -> Iterator[Honest]:
    yield Honest("metrics.jsonl", "run", LINES, within("jsonl", "metrics.jsonl"))
    rows = b"step,wall_time,Loss / value,Reward / mean\n" + b"".join(b"%d,1.0,0.5,2\n" % step for step in range(5))
    yield Honest("metrics.csv", "run", rows, within("rows", "metrics.csv"))
    events = frame(b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2") + frame(EVENT) * 4
    yield Honest("events", "run", events, within("events", "events.out.tfevents.1"))
    yield Honest("event", "run", EVENT, lambda at, made: within("event", "events.out.tfevents.1")(at, frame(made)))
    yield Honest("config.json", "run", CONFIG.encode(), within("config", "config.json"))
    row = {
        "timestep": 5, "files": {"agent": {"name": "agent_5.pt", "size": 10, "digest": "crc32:00000000"}},
        "modules": ["policy"], "best": False, "metric": {"tag": "Reward / mean", "value": 1.5}, "time": 1.0,
    }  # fmt: skip
    index = json.dumps({"version": 1, "checkpoints": [row, {**row, "timestep": 9, "best": True}]}).encode()
    yield Honest(
        "index.json", "run", index, within("index", "checkpoints/index.json", {"config.json": CONFIG.encode()})
    )


def _of_others(directory: Path) -> Iterator[Honest]:
    pickled = b"\x80\x02}(" + text("w") + tensor((1,), (1,)) + text("n") + b"K\3" + text("t") + b"K\1K\2\x86u."
    yield Honest("foreign.pt", "checkpoint", pickled, lambda at, made: archive(at / "y.pt", made), is_pickle=True)
    yield Honest("foreign.pth", "foreign", pickled, lambda at, made: archive(at / "z.pth", made), is_pickle=True)
    plain = archive(directory / "plain.pt", pickled).read_bytes()
    yield Honest("foreign archive", "checkpoint", plain, file("plain.pt"))
    yield Honest("sb3.zip", "foreign", plain, _archived)
    header: dict[str, dict[str, object]] = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "__metadata__": {"x": "y"},
    }
    told = safetensors(directory / "plain.safetensors", header, bytes(8)).read_bytes()
    yield Honest("foreign.safetensors", "checkpoint", told, file("plain.safetensors"))
    header["a"]["shape"] = [2, 1, 1]
    told = safetensors(directory / "plain.safetensors", header, bytes(8)).read_bytes()
    yield Honest("foreign memory.safetensors", "memory", told, file("memory.safetensors"))
    array = npy((4, 2, 1), np.arange(8, dtype=np.uint8).tobytes())
    yield Honest("foreign.npy", "memory", array, _zipped)
    normaliser = b"\x80\x04\x8c\x01v\x8c\x0cVecNormalize\x93)\x81}(" + text("epsilon") + b"G" + bytes(8)
    rms = b"\x8c\x01v\x8c\x11RunningMeanStdABC\x93)\x81}(" + text("mean") + pickle.dumps(np.arange(3.0), 4)[11:-1]
    normaliser += text("obs_rms") + rms + b"ubub."
    yield Honest("normaliser.pkl", "foreign", normaliser, file("n_vecnormalize.pkl"), is_pickle=True)
    brax = pickle.dumps(({"mean": np.ones(3), "std": np.ones(3)}, {"params": {"kernel": np.ones((3, 2))}}), 4)
    yield Honest("brax.pkl", "foreign", brax, file("brax.pkl"), is_pickle=True)
    yield Honest(
        "older.pickle", "checkpoint", pickle.dumps({"policy": b"\x81\xa1a\x01"}, 4), file("o.pickle"), is_pickle=True
    )
    yield Honest(
        "foreign.msgpack", "checkpoint", b"\x82\xa1a\x01\xa1b\x93\x01\xcb" + bytes(8) + b"\xc0", file("f.msgpack")
    )


def _archived(directory: Path, content: bytes) -> Path:
    with zipfile.ZipFile(directory / "s.zip", "w") as made:
        made.writestr("data", "{}")
        made.writestr("policy.pth", content)
    return directory / "s.zip"


def _zipped(directory: Path, content: bytes) -> Path:
    with zipfile.ZipFile(directory / "m.npz", "w") as made:
        made.writestr("x.npy", content)
    return directory / "m.npz"


def emptied(directory: Path) -> Path:
    """Return the directory, with nothing of an earlier file in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
