"""The contract of memories: sampling, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, UsageError
from keepfast.memories.memory import Memory
from keepfast.testing.memory.taking import MemoryTakingContract


class MemorySamplingContract(MemoryTakingContract):
    """Proves how a memory gives its samples back."""

    def test_samples_stay_together(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """The tensors of a batch are of the same samples, in the order of the names, and only of written ones."""
        memory = make(10, 2)
        self.counting(memory, array, 4)
        ((steps, states),) = memory.sample(["steps", "states"], batch_size=200)
        assert tuple(steps.shape) == (200, 1)
        np.testing.assert_array_equal(np.asarray(states)[:, 0], np.asarray(steps)[:, 0])
        assert set(np.asarray(steps)[:, 0].tolist()) == {0, 1, 100, 101, 200, 201, 300, 301}

    def test_without_replacement_no_sample_comes_twice(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Without replacement each sample comes at most once, and a batch is at most what the memory holds."""
        memory = make(4, 2, replacement=False)
        self.counting(memory, array, 3)
        ((steps,),) = memory.sample(["steps"], batch_size=100)
        assert sorted(np.asarray(steps)[:, 0].tolist()) == [0, 1, 100, 101, 200, 201]

    def test_mini_batches_share_a_batch(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Mini-batches are the parts of one batch, as equal as possible."""
        memory = make(4, 2)
        self.counting(memory, array, 4)
        parts = memory.sample(["steps"], batch_size=7, mini_batches=3)
        assert [part[0].shape[0] for part in parts] == [3, 2, 2]
        places = np.asarray(memory.get_sampling_indexes())
        flat = np.asarray(memory.get_tensor_by_name("steps", keepdim=False))
        np.testing.assert_array_equal(np.concatenate([np.asarray(part[0]) for part in parts]), flat[places])

    def test_all_samples_come_in_order(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """`sample_all` returns each written sample once, row by row, or environment by environment for sequences."""
        memory = make(5, 2)
        self.counting(memory, array, 3)
        whole = [0, 1, 100, 101, 200, 201]
        assert np.asarray(memory.sample_all(["steps"])[0][0])[:, 0].tolist() == whole
        parts = memory.sample_all(["steps"], mini_batches=4)
        assert [value for part in parts for value in np.asarray(part[0])[:, 0].tolist()] == whole
        ((steps,),) = memory.sample_all(["steps"], sequence_length=2)
        assert np.asarray(steps)[:, 0].tolist() == [0, 100, 200, 1, 101, 201]
        self.counting(memory, array, 3, first=3)
        parts = memory.sample_all(["steps"], mini_batches=3, sequence_length=2)
        assert [np.asarray(steps)[:, 0].tolist() for (steps,) in parts] == [
            [100, 200, 300, 400],
            [500, 101, 201, 301],
            [401, 501],
        ]

    def test_sequences_stay_within_an_episode(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Sequences are of one environment, in time, and cross neither an episode's end nor the newest sample."""
        memory = make(8, 2)
        memory.create_tensor("terminated", size=1, dtype="bool")
        for step in range(12):
            self.counting(memory, array, 0)
            values = step * 100 + np.arange(2)[:, None]
            memory.add_samples(
                steps=array(values.astype(np.int32)), terminated=array(np.array([[step == 6], [step == 9]]))
            )
        ((steps,),) = memory.sample(["steps"], batch_size=500, sequence_length=3)
        sequences = {tuple(row) for row in np.asarray(steps).reshape(500, 3).tolist()}
        firsts = {row[0] for row in sequences}
        assert all(row == (row[0], row[0] + 100, row[0] + 200) for row in sequences)
        assert firsts == {400, 700, 800, 900, 401, 501, 601, 701}

    def test_mini_batches_divide_no_sequence(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Sequences come whole, in mini-batches as equal as possible, and their places can be asked for."""
        memory = make(8, 2)
        self.counting(memory, array, 11)
        parts = memory.sample(["steps"], batch_size=7, mini_batches=3, sequence_length=4)
        found = [np.asarray(steps).reshape(-1, 4) for (steps,) in parts]
        assert [len(sequences) for sequences in found] == [3, 2, 2]
        assert all((sequences - sequences[:, :1] == np.arange(4) * 100).all() for sequences in found)
        ((again,),) = memory.sample_by_index(["steps"], memory.get_sampling_indexes())
        np.testing.assert_array_equal(np.asarray(again).reshape(-1, 4), np.concatenate(found))

    def test_samples_are_found_by_place(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Places, as a list or an array, give the samples there; ones that the memory does not have are refused."""
        memory = make(4, 2)
        self.counting(memory, array, 4)
        places: Any
        for places in ([0, 7, 2], np.array([0, 7, 2], np.uint8), array(np.array([0, 7, 2]))):
            ((steps,),) = memory.sample_by_index(["steps"], places)
            assert np.asarray(steps)[:, 0].tolist() == [0, 301, 100]
        parts = memory.sample_by_index(["steps"], [0, 7, 2], mini_batches=2)
        assert [np.asarray(steps)[:, 0].tolist() for (steps,) in parts] == [[0, 301], [100]]
        assert memory.sample_by_index(["steps"], [])[0][0].shape[0] == 0
        wrong: Any
        for wrong in ([8], np.array([0, -1]), [10**6]):
            with pytest.raises(InvalidValue, match=r"the index -?\d+ is none of the memory; allowed: 0 to 7"):
                memory.sample_by_index(["steps"], wrong)
        for wrong in ([0.5], [True], [[0]]):
            with pytest.raises(InvalidValue, match="whole numbers in one dimension"):
                memory.sample_by_index(["steps"], wrong)

    @pytest.mark.parametrize("wrong", [0, -1, 1.5])
    def test_numbers_of_samples_are_at_least_one(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], wrong: Any
    ) -> None:
        """A batch, a mini-batch and a sequence have at least one sample; else InvalidValue names the argument."""
        memory = make(4, 2)
        self.counting(memory, array, 4)
        for name in ("batch_size", "mini_batches", "sequence_length"):
            with pytest.raises(InvalidValue, match=f"`{name}` is {wrong}"):
                memory.sample(["steps"], **{"batch_size": 4, name: wrong})
        with pytest.raises(InvalidValue, match="`mini_batches`"):
            memory.sample_all(["steps"], mini_batches=wrong)
        with pytest.raises(InvalidValue, match="`mini_batches`"):
            memory.sample_by_index(["steps"], [0], mini_batches=wrong)

    def test_there_must_be_something_to_sample(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Sampling an empty memory, or sequences longer than what it holds, raises UsageError."""
        memory = make(4)
        memory.create_tensor("steps", size=1, dtype="int32")
        with pytest.raises(UsageError, match="empty"):
            memory.sample(["steps"], batch_size=1)
        memory.add_samples(steps=array(np.zeros(1, np.int32)))
        with pytest.raises(UsageError, match="no sequence of 2"):
            memory.sample(["steps"], batch_size=1, sequence_length=2)
