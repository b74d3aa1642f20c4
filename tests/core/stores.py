"""An object store in the memory of the process, which says what was asked of it and refuses what it is told to."""

from __future__ import annotations

import contextlib
import json
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

import keepfast

RUN = "bucket/runs/run"

OPERATIONS = ("pipe_file", "cat_file", "rm_file", "cp_file", "find", "ls")


@final
class Bucket:
    """What lies in the store, and what is asked of it.

    Attributes:
        asked: each operation with the name of its object.
        refuses: says whether an operation fails; the number of those before it, its name and its object.
        seen: called after each operation that changed something.
    """

    def __init__(self, store: dict[str, Any]) -> None:
        self._store = store
        self.asked: list[tuple[str, str]] = []
        self.refuses: Callable[[int, str, str], bool] = lambda *_: False
        self.seen: Callable[[], object] = lambda: None

    def names(self, below: str) -> set[str]:
        """Return the names of all objects below a name, hidden ones left out."""
        found = (name.removeprefix(f"/{below}/") for name in list(self._store) if name.startswith(f"/{below}/"))
        return {name for name in found if not name.startswith(".")}

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, None where there is none."""
        file = self._store.get(f"/{name}")
        return None if file is None else bytes(file.getvalue())

    def write(self, name: str, content: bytes) -> None:
        """Put an object there behind everybody's back."""
        import fsspec

        fsspec.filesystem("memory").store[f"/{name}"] = fsspec.implementations.memory.MemoryFile(
            fsspec.filesystem("memory"), f"/{name}", content
        )

    def problems(self, run: str) -> list[str]:
        """Return what a reader of a run finds wrong: rows of the index whose objects are absent, or others."""
        index = self.read(f"{run}/checkpoints/index.json")
        found = []
        for row in [] if index is None else json.loads(index)["checkpoints"]:
            for file in row["files"].values():
                name = f"{run}/checkpoints/{file['name']}"
                content = self.read(name)
                if content is None:
                    found += [] if any(key.startswith(f"/{name}/") for key in self._store) else [f"{name} is absent"]
                elif f"crc32:{zlib.crc32(content):08x}" != file["digest"]:
                    found.append(f"{name} is another one")
            found += [name for name in row.get("segments", ()) if self.read(f"{run}/checkpoints/{name}") is None]
        return found


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bucket]:
    """Return an empty store, which ``memory://`` reaches, with a spool of its own and without pauses."""
    memory = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem
    from keepfast._system.remote import mirror, store

    monkeypatch.setenv("KEEPFAST_SPOOL", str(tmp_path / "spool"))
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_LONGEST_AWAITED_PAUSE"):
        monkeypatch.setattr(mirror, name, 0.01)
    for name, value in {"_FIRST_PAUSE": 0.01, "_LONGEST_PAUSE": 0.01, "_PATIENCE_SECONDS": 0.1}.items():
        monkeypatch.setattr(store, name, value)
    made = Bucket(memory.store)
    memory.store.clear()
    for name in OPERATIONS:
        monkeypatch.setattr(memory, name, _counted(made, name, getattr(memory, name)))
    yield made
    memory.store.clear()


def _counted(bucket: Bucket, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, path: str, *arguments: Any, **named: Any) -> Any:
        number = len(bucket.asked)
        bucket.asked.append((name, str(path)))
        if bucket.refuses(number, name, str(path)):
            raise ConnectionError("the network is down")
        found = operation(self, path, *arguments, **named)
        if name in ("pipe_file", "rm_file", "cp_file"):
            bucket.seen()
        return found

    return call


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Return what waits until something holds."""

    def wait(holds: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.005)

    return wait


def cfg(**settings: Any) -> dict[str, Any]:
    chosen = {
        "write_interval": 1,
        "checkpoint_interval": 2,
        "keep_last": 2,
        "best_metric": "a",
        "upload_patience": 10.0,
    }
    base = {"directory": "memory://bucket/runs", "experiment_name": "run", "writers": ["jsonl"], "provenance": False}
    return {**base, **chosen, **settings}


@contextlib.contextmanager
def running(
    net: Any, length: int, of: int | None = None, *, waiting: bool = False, **settings: Any
) -> Iterator[keepfast.Experiment]:
    """Train a net that counts its steps, from where the run stopped."""
    with keepfast.Experiment(cfg(**settings), timesteps=of or length) as experiment:
        experiment.register(policy=net)
        for timestep in range(experiment.resume(), length):
            net.arrays["steps"] += 1
            experiment.track_data("a", float(timestep))
            experiment.step(timestep)
            if waiting:
                experiment.wait()
        yield experiment


@contextlib.contextmanager
def telling() -> Iterator[Callable[[], list[str]]]:
    """Yield what returns all that was told."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield lambda: [str(each.message) for each in told]


@pytest.fixture
def counter(net: Callable[..., Any]) -> Callable[[], Any]:
    """Return what makes a net that counts its steps."""
    return lambda: net(steps=np.zeros(1))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return what moves to a machine of a name, whose spool is its own."""
    return lambda name: monkeypatch.setenv("KEEPFAST_SPOOL", str(tmp_path / name))
