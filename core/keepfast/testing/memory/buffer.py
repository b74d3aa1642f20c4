"""The contract of memories: tensors and adding, whatever the framework."""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, ShapeMismatch, UnknownTensor
from keepfast.memories.memory import Memory


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

    @pytest.mark.parametrize("size", ["three", 2.5, (2, -1), object(), True, -1])
    def test_a_size_that_is_none_is_refused(self, make: Callable[..., Memory], size: Any) -> None:
        """A size that is no number, shape or space raises InvalidValue, which tells it."""
        with pytest.raises(InvalidValue, match="size"):
            make(5).create_tensor("states", size=size)

    @pytest.mark.parametrize("size", [np.prod((2, 3)), np.int32(6), np.array((2, 3)), np.array(6)])
    def test_sizes_may_be_of_numpy(self, make: Callable[..., Memory], size: Any) -> None:
        """A number of NumPy's, as the product of a shape is, is a size like any other."""
        memory = make(5)
        memory.create_tensor("states", size=size)
        assert tuple(memory.get_tensor_by_name("states").shape) == (5, 1, 6)

    @pytest.mark.parametrize("name", ["", "a\0b", "a\ud800", 3, None])
    def test_a_name_that_no_file_can_hold_is_refused(self, make: Callable[..., Memory], name: Any) -> None:
        """A name is text that is not empty, has no NUL and can be encoded; others raise InvalidValue at once."""
        memory = make(5)
        with pytest.raises(InvalidValue, match="a tensor was given the name"):
            memory.create_tensor(name, size=1)
        assert memory.get_tensor_names() == []

    @pytest.mark.parametrize("dtype", ["float33", "object", "str", "datetime64[s]"])
    def test_a_dtype_that_there_is_none_of_is_refused(self, make: Callable[..., Memory], dtype: str) -> None:
        """A dtype that the framework lacks raises InvalidValue, which tells it."""
        with pytest.raises(InvalidValue, match="dtype"):
            make(5).create_tensor("states", size=1, dtype=dtype)

    @pytest.mark.parametrize("size", [0, (0,), (3, 0)])
    def test_a_tensor_may_be_empty(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], size: Any
    ) -> None:
        """A sample of no elements, as an agent without observations has, is kept like any other."""
        memory = make(4, 2)
        memory.create_tensor("nothing", size, keep_dimensions=True)
        shape = tuple(memory.get_tensor_by_name("nothing").shape[2:])
        assert tuple(memory.get_tensor_by_name("nothing", keepdim=False).shape) == (8, *shape)
        memory.create_tensor("terminated", 0, dtype="bool")
        memory.add_samples(nothing=array(np.zeros((4, 2, *shape), np.float32)))
        ((found,),) = memory.sample(["nothing"], 6, sequence_length=2)
        assert tuple(found.shape) == (12, *shape)
        memory.set_tensor_by_name("nothing", memory.get_tensor_by_name("nothing"))

    def test_spaces_tell_sizes(self, make: Callable[..., Memory]) -> None:
        """A Gymnasium space gives the size of its samples, and is told in exported files."""
        spaces = pytest.importorskip("gymnasium").spaces
        memory = make(4, 2)
        memory.create_tensor("box", spaces.Box(0, 1, (2, 3)))
        memory.create_tensor("image", spaces.Box(0, 1, (2, 3)), keep_dimensions=True)
        memory.create_tensor("discrete", spaces.Discrete(5), dtype="int32")
        both = spaces.Dict({"a": spaces.Box(0, 1, (2,)), "b": spaces.Discrete(3)})
        memory.create_tensor("both", both, dtype="float32")
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
        with pytest.raises(
            UnknownTensor, match=r"Nothing was added: `create_tensor\('sates', size\)` makes one, or leave"
        ):
            memory.add_samples(sates=array(np.zeros((2, 3), np.float32)))
        with pytest.raises(InvalidValue, match="given no tensors"):
            memory.add_samples()

    def test_names_without_a_tensor_are_passed_over(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]
    ) -> None:
        """A size of None makes no tensor, and says so; its samples are passed over, and None stands in their place."""
        memory = make(4, 2)
        assert memory.create_tensor("privileged", size=None) is False
        self.counting(memory, array, 2)
        memory.create_tensor("privileged", size=None, dtype="float32", keep_dimensions=True)
        assert memory.get_tensor_names() == ["states", "steps"]
        states, steps = array(np.ones((2, 3), np.float32)), array(np.ones((2, 1), np.int32))
        memory.add_samples(states=states, privileged=None, steps=steps, log_prob=steps)
        memory.add_samples(states=states, privileged=states, steps=steps)
        memory.add_samples(privileged=states)
        assert (memory.memory_index, len(memory)) == (0, 8)
        names = ["privileged", "steps", "log_prob", "states"]
        for batches in (
            memory.sample(names, batch_size=6, mini_batches=2),
            memory.sample_all(names, mini_batches=2),
            memory.sample_by_index(names, [0, 1, 4], mini_batches=2),
        ):
            assert [[part is None for part in batch] for batch in batches] == [[True, False, True, False]] * 2
            assert [tuple(part.shape[1:]) for part in batches[0] if part is not None] == [(1,), (3,)]
        assert memory.create_tensor("privileged", size=3) is True
        memory.add_samples(privileged=states)

    @pytest.mark.parametrize("samples", ["x", object(), np.full((2, 3), "x"), np.full((2, 3), None)])
    def test_samples_are_numbers(self, make: Callable[..., Memory], samples: Any) -> None:
        """What no numbers can be made of raises InvalidValue with the tensor and the kind of what was given."""
        memory = make(4, 2)
        memory.create_tensor("states", size=3)
        kind = type(samples).__name__
        for call in (
            partial(memory.add_samples, states=samples),
            partial(memory.set_tensor_by_name, "states", samples),
        ):
            with pytest.raises(InvalidValue, match=f"`states` was given a {kind}, and numbers are needed"):
                call()
        assert len(memory) == 0

    def test_a_reset_forgets(self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any]) -> None:
        """After a reset the memory is empty, and what it held is not saved."""
        memory = make(3, 2)
        self.counting(memory, array, 5)
        memory.reset()
        assert (memory.memory_index, memory.env_index, memory.filled, len(memory)) == (0, 0, False, 0)
        assert not memory.snapshot().tensors["steps"].any()
