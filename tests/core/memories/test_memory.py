"""A memory is its storage, a place in a ring, a sampler and an export, whatever the framework."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.testing import MemoryContract


@pytest.mark.needs("polars", "gymnasium")
class TestSmallestMemory(MemoryContract):
    """The storage in the documentation of `keepfast.Storage`."""

    @pytest.fixture
    def make(self, numpy_memory: Callable[..., keepfast.Memory]) -> Callable[..., keepfast.Memory]:
        return numpy_memory

    @pytest.fixture
    def array(self) -> Callable[[Any], Any]:
        return np.array


def test_a_storage_is_all_that_a_memory_needs(storage: Callable[..., keepfast.Storage], tmp_path: Path) -> None:
    """`keepfast.Memory` takes one as it is, and tells what it has of it."""
    memory = keepfast.Memory(storage(4, 2), export=True, export_directory=tmp_path, export_format="npz")
    assert (memory.memory_size, memory.num_envs, memory.device, memory.backend) == (4, 2, None, "numpy")
    memory.create_tensor("x", 1)
    for row in range(5):
        memory.add_samples(x=np.full((2, 1), row))
    memory.close()
    assert memory.storage.buffers["x"][:, 0].tolist() == [4, 4, 1, 1, 2, 2, 3, 3]
    assert memory.ring == keepfast.Ring(4, 2, 1, 0, filled=True)
    (_, written), (_, last) = keepfast.iter_memories(tmp_path / "*")
    assert (len(last), last.tensors["x"][0].tolist()) == (2, [[4.0], [4.0]])
    assert written.tensors["x"][:, 0, 0].tolist() == [0, 1, 2, 3]


def test_where_the_next_sample_goes_can_be_set(numpy_memory: Callable[..., keepfast.Memory]) -> None:
    """By its row, its environment, and whether the memory is full, each alone."""
    memory = numpy_memory(4, 3)
    memory.create_tensor("x", 1)
    memory.memory_index = 2
    memory.env_index = 1
    memory.filled = True
    assert memory.ring == keepfast.Ring(4, 3, 2, 1, filled=True)
    memory.add_samples(x=[7.0])
    assert memory.get_tensor_by_name("x")[2, 1, 0] == 7.0
    assert (memory.memory_index, memory.env_index, memory.filled, len(memory)) == (2, 2, True, 12)


def test_settings_can_be_changed(numpy_memory: Callable[..., keepfast.Memory], tmp_path: Path) -> None:
    """Exporting, replacement and what files tell are attributes of the memory, at any time."""
    memory = numpy_memory(2, export=True, export_format="npz", export_directory=tmp_path)
    memory.create_tensor("x", 1)
    memory.export = False
    memory.replacement = False
    memory.metadata = {"agent": "SAC"}
    memory.add_samples(x=np.arange(2.0)[:, None])
    ((drawn,),) = memory.sample(["x"], batch_size=9)
    assert sorted(drawn[:, 0].tolist()) == [0.0, 1.0]
    memory.export = True
    memory.add_samples(x=np.arange(2.0, 4.0)[:, None])
    memory.close()
    ((path, written),) = keepfast.iter_memories(tmp_path / "*")
    assert written.tensors["x"][:, 0, 0].tolist() == [2, 3]
    assert (written.metadata["agent"], written.metadata["cycle"], path.stem[-2:]) == ("SAC", 2, "-2")


def test_a_memory_that_is_copied_goes_on_counting(numpy_memory: Callable[..., keepfast.Memory]) -> None:
    """What it drew last, its cycles and its seams go with a copy, which then has its own."""
    memory = numpy_memory(4)
    memory.restore(keepfast.MemorySnapshot({"x": np.zeros((4, 1, 1), np.float32)}, 1, 0, True, {"seams": [2]}))
    memory.sample(["x"], 3)
    other = copy.deepcopy(memory)
    assert other.get_sampling_indexes().tolist() == memory.get_sampling_indexes().tolist()
    memory.add_samples(x=np.zeros((3, 1)))
    assert other.state_dict()["seams"] == [2]
    assert memory.state_dict()["seams"] == []
    other.add_samples(x=np.zeros((7, 1)))
    assert (memory.snapshot().metadata["cycle"], other.snapshot().metadata["cycle"]) == (1, 2)
