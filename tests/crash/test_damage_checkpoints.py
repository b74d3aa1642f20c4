"""What disks do to checkpoints, and what full disks do to their writing: counted, per format."""

from __future__ import annotations

import errno
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfast._system.commit import commit
from keepfast.errors import CorruptCheckpoint, WriteFailed
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.plugins import registry
from keepfast.testing.checkpoint_store import assert_same, random_array
from keepfast.testing.damage import flips, truncations, zeroed_blocks

needs_msgpack = pytest.mark.needs("msgpack")
FORMATS = ("pt", "safetensors", *(pytest.param(name, marks=needs_msgpack) for name in ("msgpack", "pickle")))
DAMAGES = {"bit flips": flips, "zeroed 4 KB blocks": zeroed_blocks, "truncations": truncations}
MEGABYTE = 1 << 20


@pytest.fixture(params=FORMATS)
def store(request: pytest.FixtureRequest) -> CheckpointStore:
    return registry().get("checkpoint format", request.param)()


@pytest.fixture
def path(store: CheckpointStore, tmp_path: Path) -> Path:
    return tmp_path / f"agent_1000{store.extension}"


def agent(megabytes: int = 3) -> dict[str, Any]:
    """Return an actor-critic of two networks and their optimizer, no byte of its arrays zero."""

    def weights(seed: int) -> dict[str, Any]:
        side = 64 * megabytes
        return {f"net.{n}.weight": random_array(np.dtype(np.float32), (side, 256), seed + n) for n in range(4)}

    moments = {index: {"step": np.array(1.5), **weights(100 + index)} for index in range(2)}
    groups = [{"lr": 3e-4, "betas": (0.9, 0.999), "params": [0, 1]}]
    return {"policy": weights(0), "value": weights(10), "optimizer": {"state": moments, "param_groups": groups}}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_noticed_every_time(store: CheckpointStore, path: Path, kind: str) -> None:
    """Sixty damages of each kind to a checkpoint of an agent all raise CorruptCheckpoint."""
    store.save(Checkpoint(agent(1), {"timestep": 1000}), path)
    noticed = 0
    for _, content in DAMAGES[kind](path.read_bytes(), 60, seed=1):
        path.write_bytes(content)
        with pytest.raises(CorruptCheckpoint):
            store.load(path)
        noticed += 1
    print(f"{store.extension}: {noticed} of 60 {kind} noticed")
    assert noticed == 60


class FullDisk:
    """A file on a disk that is full after so many writes."""

    def __init__(self, file: Any, writes: int) -> None:
        self._file, self.left = file, writes

    def write(self, data: Any) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_disk_full_at_any_write_leaves_the_previous_checkpoint(store: CheckpointStore, path: Path) -> None:
    """Whichever write of a save fails, the error is raised and the checkpoint of before is whole; no thread stays."""
    before, after = Checkpoint({"policy": {"w": np.ones(3)}}, {"timestep": 1}), Checkpoint(agent(), {"timestep": 2})
    store.save(before, path)
    threads = threading.active_count()
    for writes in range(10_000):
        try:
            commit(path, lambda file, writes=writes: store.write(after, FullDisk(file, writes)))
        except WriteFailed as error:
            assert "No space left" in str(error)  # noqa: PT017  (the last write is found by its not failing)
            assert_same(store.load(path).state, before.state)
            assert [file.name for file in path.parent.iterdir()] == [path.name]
            assert threading.active_count() == threads
        else:
            break
    print(f"{store.extension}: previous checkpoint loaded after {writes} of {writes} failed writes")
    assert writes > 3
    assert_same(store.load(path).state, after.state)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_saving_takes_no_copy_of_the_state(store: CheckpointStore, path: Path, traced: None) -> None:
    """Writing takes less than two megabytes beside the state, and reading less than two beside the result."""
    state = agent(8)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    size = store.save(Checkpoint(state), path)
    written = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    loaded = store.load(path)
    read = tracemalloc.get_traced_memory()[1] - before
    print(f"{store.extension}: {written >> 10} KB beside {size >> 10} KB to write")
    assert size > 8 * MEGABYTE
    assert written < 2 * MEGABYTE
    assert read < size + 2 * MEGABYTE
    assert_same(loaded.state, state)
