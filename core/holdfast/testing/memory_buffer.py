"""The contract of memories: tensors, adding and sampling, whatever the framework."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from holdfast.errors import (
    InvalidValue,
    ShapeMismatch,
    UnknownTensor,
    UsageError,
)
from holdfast.memory_live import Memory


class MemoryBufferContract(abc.ABC):
    """Proves what a memory does without files; `MemoryContract` is the whole."""

    @pytest.fixture
    @abc.abstractmethod
    def make(self) -> Callable[..., Memory]:
        """Return the class of the memory."""

    @pytest.fixture
    @abc.abstractmethod
    def array(self) -> Callable[[NDArray[Any]], Any]:
        """Return what makes an array of the framework from a NumPy array."""

    def counting(self, memory: Memory, array: Callable[[NDArray[Any]], Any], steps: int, first: int = 0) -> None:
        """Add rows whose values say when and for which environment they were added."""
        memory.create_tensor("states", size=3)
        memory.create_tensor("steps", size=1, dtype="int32")
        for step in range(first, first + steps):
            values = step * 100 + np.arange(memory.num_envs)[:, None]
            memory.add_samples(
                states=array(values.repeat(3, 1).astype(np.float32)), steps=array(values.astype(np.int32))
            )

    def steps(self, memory: Memory) -> list[list[int]]:
        """Return the values of the tensor `steps`, of shape (memory_size, num_envs)."""
        rows: list[list[int]] = np.asarray(memory.get_tensor_by_name("steps"))[..., 0].tolist()
        return rows

    # tensors

    def test_tensors_have_the_shape_of_the_memory(self, make: Callable[..., Memory]) -> None:
        """A tensor has the shape (memory_size, num_envs, size); dimensions are flattened unless they are kept."""
        memory = make(5, 2)
        assert memory.create_tensor("flat", size=(2, 3)) is True
        assert memory.create_tensor("image", size=(2, 3), dtype="uint8", keep_dimensions=True) is True
        assert tuple(memory.get_tensor_by_name("flat").shape) == (5, 2, 6)
        assert tuple(memory.get_tensor_by_name("image").shape) == (5, 2, 2, 3)
        assert tuple(memory.get_tensor_by_name("image", keepdim=False).shape) == (10, 2, 3)
        assert memory.get_tensor_names() == ["flat", "image"]

    def test_a_tensor_begins_as_nan_or_zeros(self, make: Callable[..., Memory]) -> None:
        """What was never written is NaN in floating-point tensors, so that using it shows, and zero in others."""
        memory = make(5)
        memory.create_tensor("states", size=1)
        memory.create_tensor("actions", size=1, dtype="int32")
        assert np.isnan(np.asarray(memory.get_tensor_by_name("states"))).all()
        assert not np.asarray(memory.get_tensor_by_name("actions")).any()

    def test_creating_a_tensor_again_changes_nothing(self, make: Callable[..., Memory]) -> None:
        """A tensor that exists is not created again, and another size or dtype is an error."""
        memory = make(5)
        memory.create_tensor("states", size=3, dtype="float32")
        assert memory.create_tensor("states", size=3) is False
        with pytest.raises(ShapeMismatch, match=r"`states` exists with the size \(3,\), not \(4,\)"):
            memory.create_tensor("states", size=4)
        with pytest.raises(InvalidValue, match="dtype float32, not int32"):
            memory.create_tensor("states", size=3, dtype="int32")

    @pytest.mark.parametrize("size", ["three", 2.5, (2, -1), None])
    def test_a_size_that_is_none_is_refused(self, make: Callable[..., Memory], size: Any) -> None:
        """A size that is no number, shape or space raises InvalidValue, which tells it."""
        with pytest.raises(InvalidValue, match="size"):
            make(5).create_tensor("states", size=size)

    def test_spaces_tell_sizes(self, make: Callable[..., Memory]) -> None:
        """A Gymnasium space gives the size of its samples, and is told in exported files."""
        spaces = pytest.importorskip("gymnasium").spaces
        memory = make(4, 2)
        memory.create_tensor("box", spaces.Box(0, 1, (2, 3)))
        memory.create_tensor("image", spaces.Box(0, 1, (2, 3)), keep_dimensions=True)
        memory.create_tensor("discrete", spaces.Discrete(5), dtype="int32")
        memory.create_tensor("both", spaces.Dict({"a": spaces.Box(0, 1, (2,)), "b": spaces.Discrete(3)}))
        shapes = {name: tuple(memory.get_tensor_by_name(name).shape[2:]) for name in memory.get_tensor_names()}
        assert shapes == {"both": (3,), "box": (6,), "discrete": (1,), "image": (2, 3)}
        assert memory.snapshot().metadata["spaces"]["discrete"] == "Discrete(5)"

    def test_a_tensor_can_be_set(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """All values of a tensor are replaced at once, as returns and advantages are."""
        memory = make(4, 2)
        memory.create_tensor("returns", size=1)
        values = np.arange(8, dtype=np.float32).reshape(4, 2, 1)
        memory.set_tensor_by_name("returns", array(values))
        np.testing.assert_array_equal(np.asarray(memory.get_tensor_by_name("returns")), values)
        with pytest.raises(ShapeMismatch, match=r"`returns` was given with the shape \(4, 1\); expected \(4, 2, 1\)"):
            memory.set_tensor_by_name("returns", array(np.zeros((4, 1), np.float32)))

    # adding

    def test_a_sample_of_each_environment_fills_a_row(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Samples of all environments go to the next row, and after the last row to the first."""
        memory = make(3, 2)
        self.counting(memory, array, 2)
        assert (memory.memory_index, memory.env_index, memory.filled, len(memory)) == (2, 0, False, 4)
        self.counting(memory, array, 2, first=2)
        assert (memory.memory_index, memory.env_index, memory.filled, len(memory)) == (1, 0, True, 6)
        assert self.steps(memory) == [[300, 301], [100, 101], [200, 201]]

    def test_samples_of_some_environments_follow_one_another(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Single samples, and those of fewer environments than there are, fill a row bit by bit."""
        memory = make(2, 4)
        memory.create_tensor("steps", size=1, dtype="int32")
        memory.add_samples(steps=array(np.array([0], np.int32)))
        assert (memory.memory_index, memory.env_index) == (0, 1)
        memory.add_samples(steps=array(np.array([[1], [2], [3]], np.int32)))
        assert (memory.memory_index, memory.env_index) == (1, 0)
        memory.add_samples(steps=array(np.array([[4], [5], [6]], np.int32)))
        memory.add_samples(steps=array(np.array([[7], [8]], np.int32)))
        assert (memory.memory_index, memory.env_index, memory.filled) == (0, 1, True)
        assert self.steps(memory) == [[8, 1, 2, 3], [4, 5, 6, 7]]

    def test_more_samples_than_fit_leave_the_newest(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """A memory of one environment takes any number of samples and keeps the newest."""
        memory = make(4)
        memory.create_tensor("steps", size=1, dtype="int32")
        memory.add_samples(steps=array(np.arange(3, dtype=np.int32)[:, None]))
        memory.add_samples(steps=array(np.arange(3, 14, dtype=np.int32)[:, None]))
        assert (memory.memory_index, memory.filled) == (2, True)
        assert self.steps(memory) == [[12], [13], [10], [11]]

    def test_several_rows_are_added_at_once(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """An array of shape (rows, num_envs, size) is that many rows."""
        memory = make(3, 2)
        memory.create_tensor("steps", size=1, dtype="int32")
        memory.add_samples(steps=array(np.arange(8, dtype=np.int32).reshape(4, 2, 1)))
        assert self.steps(memory) == [[6, 7], [2, 3], [4, 5]]

    def test_numpy_samples_are_copied(self, make: Callable[..., Memory]) -> None:
        """An array that its owner changes after the call, as environments do, leaves the memory as it was."""
        memory = make(50, 256)
        memory.create_tensor("states", size=256)
        reused = np.empty((256, 256), np.float32)
        for step in range(50):
            reused[:] = step
            memory.add_samples(states=reused)
            reused[:] = -1
        kept = np.asarray(memory.get_tensor_by_name("states"))
        np.testing.assert_array_equal(kept, np.broadcast_to(np.arange(50)[:, None, None], kept.shape))

    @pytest.mark.parametrize("shape", [(2, 4), (3, 3), (4, 3), (3, 2), (1, 3, 3), ()])
    def test_a_wrong_shape_is_refused_before_anything_is_written(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], shape: tuple[int, ...]
    ) -> None:
        """A wrong shape raises ShapeMismatch with the tensor and both shapes, and no tensor is changed."""
        memory = make(4, 2)
        self.counting(memory, array, 1)
        before = memory.snapshot()
        with pytest.raises(ShapeMismatch, match=r"`states` was given with the shape \(.*; expected \(2, 3\)") as raised:
            memory.add_samples(steps=array(np.zeros((2, 1), np.int32)), states=array(np.zeros(shape, np.float32)))
        assert str(shape) in str(raised.value)
        assert (memory.memory_index, memory.env_index) == (1, 0)
        np.testing.assert_array_equal(memory.snapshot().tensors["steps"], before.tensors["steps"])

    def test_different_numbers_of_samples_are_refused(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """Tensors that hold different numbers of samples raise ShapeMismatch with each number."""
        memory = make(4, 2)
        self.counting(memory, array, 1)
        with pytest.raises(ShapeMismatch, match="`states`: 1, `steps`: 2"):
            memory.add_samples(states=array(np.zeros(3, np.float32)), steps=array(np.zeros((2, 1), np.int32)))
        assert len(memory) == 2

    def test_unknown_names_are_refused(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """A name that no tensor has raises UnknownTensor with the nearest, wherever it is given."""
        memory = make(4, 2)
        self.counting(memory, array, 1)
        for call in (
            lambda: memory.add_samples(sates=array(np.zeros((2, 3), np.float32))),
            lambda: memory.sample(["sates"], batch_size=1),
            lambda: memory.sample_all(["sates"]),
            lambda: memory.get_tensor_by_name("sates"),
        ):
            with pytest.raises(UnknownTensor, match=r"no tensor `sates`; known: states, steps\. Did you mean `states`"):
                call()
        with pytest.raises(InvalidValue, match="given no tensors"):
            memory.add_samples()

    # sampling

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

    def test_a_reset_forgets(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """After a reset the memory is empty, and what it held is not saved."""
        memory = make(3, 2)
        self.counting(memory, array, 5)
        memory.reset()
        assert (memory.memory_index, memory.env_index, memory.filled, len(memory)) == (0, 0, False, 0)
        assert not memory.snapshot().tensors["steps"].any()
