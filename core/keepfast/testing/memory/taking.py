"""The contract of memories: which samples a tensor takes, by its space and by its dtype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, ShapeMismatch
from keepfast.memories.memory import Memory
from keepfast.testing.memory.buffer import MemoryBufferContract

HELD = [
    ("float64", "float32", [0.1, 1e30, -np.inf, np.nan]),
    ("float16", "float32", [0.5, -2.0]),
    ("uint8", "float32", [0, 255]),
    ("int16", "float32", [-(2**15), 2**15 - 1]),
    ("uint8", "int32", [0, 255]),
    ("int8", "float16", [-128, 127]),
    ("bool", "float32", [True, False]),
    ("bool", "uint8", [True, False]),
]
"""Dtypes that are given, dtypes that take all of their values, and some of these."""

NOT_HELD = [
    ("float32", "uint8", [0.5]),
    ("float32", "int32", [1.0]),
    ("float32", "bool", [np.nan]),
    ("float32", "float16", [70000.0]),
    ("int32", "float32", [2**24 + 1]),
    ("int32", "float16", [2049]),
    ("int32", "uint8", [256]),
    ("int32", "uint8", [-1]),
    ("int8", "uint8", [-1]),
    ("uint8", "int8", [200]),
    ("int32", "bool", [2]),
    ("complex64", "float32", [1 + 1j]),
]
"""Dtypes that are given, dtypes that lack values of them, and some of these."""


def space_of(text: str) -> Any:
    """Return a space of Gymnasium by what makes it."""
    spaces = pytest.importorskip("gymnasium").spaces
    return eval(f"spaces.{text}", {"spaces": spaces, "np": np})  # noqa: S307  (of the parameters above the tests)


class MemoryTakingContract(MemoryBufferContract):
    """Proves what `create_tensor` makes of a space, and that no sample becomes another number."""

    @pytest.mark.parametrize(
        ("space", "size", "dtype"),
        [
            ("Box(0, 255, (4, 4, 3), np.uint8)", (48,), "uint8"),
            ("Box(-1, 1, (2, 3))", (6,), "float32"),
            ("Box(-1, 1, (2,), np.float16)", (2,), "float16"),
            ("Box(-5, 5, (), np.int16)", (1,), "int16"),
            ("Discrete(5)", (1,), "int64"),
            ("Discrete(5, start=-2)", (1,), "int64"),
            ("MultiDiscrete([3, 4])", (2,), "int64"),
            ("MultiDiscrete([[3, 4], [5, 6]])", (4,), "int64"),
            ("MultiBinary(3)", (3,), "int8"),
            ("MultiBinary((2, 2))", (4,), "int8"),
        ],
    )
    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_a_space_decides_the_dtype_and_its_samples_are_taken(
        self, make: Callable[..., Memory], space: str, size: tuple[int, ...], dtype: str, num_envs: int
    ) -> None:
        """A tensor of a space has its dtype, as wide as the framework has it, and takes what the space samples."""
        described = space_of(space)
        described.seed(1)
        memory = make(2, num_envs)
        assert memory.create_tensor("values", described) is True
        assert memory.create_tensor("values", described) is False
        kept = memory.get_tensor_by_name("values")
        assert tuple(kept.shape) == (2, num_envs, *size)
        assert str(np.asarray(kept).dtype) == memory.storage.dtype_name(dtype)
        samples = [described.sample() for _ in range(num_envs + 1)]
        memory.add_samples(values=np.stack(samples[:num_envs]))
        memory.add_samples(values=samples[num_envs])
        found = np.asarray(memory.get_tensor_by_name("values", keepdim=False))[: num_envs + 1]
        np.testing.assert_array_equal(found, np.stack(samples).reshape(num_envs + 1, *size))

    def test_a_given_dtype_goes_before_that_of_the_space(self, make: Callable[..., Memory]) -> None:
        """Who names a dtype gets it, and whole numbers of a space whose limits it holds are taken."""
        spaces = pytest.importorskip("gymnasium").spaces
        memory = make(2, 2)
        memory.create_tensor("actions", spaces.Discrete(3), dtype="float32")
        memory.add_samples(actions=np.array([[2], [1]]))
        assert np.asarray(memory.get_tensor_by_name("actions"))[0].tolist() == [[2.0], [1.0]]

    @pytest.mark.parametrize("limits", ["Discrete(2**24)", "Box(0, 255, (1,), np.int32)", "MultiDiscrete([2**24])"])
    def test_a_space_tells_which_whole_numbers_there_are(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], limits: str
    ) -> None:
        """An array of the framework, whose values nobody looks at, is taken where the space says that they fit."""
        spaces = pytest.importorskip("gymnasium").spaces
        memory, space = make(2, 2), space_of(limits)
        memory.create_tensor("actions", space, dtype="float32")
        memory.add_samples(actions=array(np.array([[2], [1]], np.int32)))
        assert np.asarray(memory.get_tensor_by_name("actions"))[0].tolist() == [[2.0], [1.0]]
        memory.create_tensor("ids", spaces.Discrete(2**24 + 2), dtype="float32")
        with pytest.raises(InvalidValue, match="`ids` is of float32 and was given int32"):
            memory.add_samples(ids=array(np.array([[2**24 + 1], [1]], np.int32)))

    def nested(self) -> Any:
        """Return a space of several values."""
        spaces = pytest.importorskip("gymnasium").spaces
        parts = spaces.Tuple((spaces.Discrete(4), spaces.Box(-1, 1, (2,))))
        return spaces.Dict({"image": spaces.Box(0, 255, (2, 2), np.uint8), "rest": parts, "on": spaces.MultiBinary(3)})

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_each_leaf_of_a_space_is_a_tensor(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], num_envs: int
    ) -> None:
        """A Dict or Tuple gives a tensor per leaf, takes its samples, one or a batch, and gives them back likewise."""
        batched = pytest.importorskip("gymnasium").vector.utils.batch_space
        space = self.nested()
        space.seed(2)
        memory = make(3, num_envs)
        assert memory.create_tensor("states", space) is True
        assert memory.create_tensor("states", space) is False
        memory.create_tensor("rewards", 1)
        dtypes = {name: str(np.asarray(memory.get_tensor_by_name(name)).dtype) for name in memory.get_tensor_names()}
        wide = memory.storage.dtype_name("int64")
        named = {"states.image": "uint8", "states.on": "int8", "states.rest.0": wide, "states.rest.1": "float32"}
        assert dtypes == {"rewards": "float32", **named}
        single, batch = space.sample(), batched(space, num_envs).sample()
        memory.add_samples(states=batch, rewards=array(np.ones((num_envs, 1), np.float32)))
        memory.add_samples(states=single, rewards=2.0)
        ((states, rewards),) = memory.sample_all(["states", "rewards"])
        assert np.asarray(rewards).ravel().tolist() == [1.0] * num_envs + [2.0]
        assert [set(states), type(states["rest"])] == [{"image", "rest", "on"}, tuple]
        for found, many, one in (
            (states["image"], batch["image"], single["image"]),
            (states["rest"][0], batch["rest"][0], single["rest"][0]),
            (states["rest"][1], batch["rest"][1], single["rest"][1]),
        ):
            expected = np.concatenate([many.reshape(num_envs, -1), np.reshape(one, (1, -1))])
            np.testing.assert_array_equal(np.asarray(found), expected)
        ((drawn,),) = memory.sample(["states"], 5, sequence_length=1)
        assert tuple(drawn["image"].shape) == (5, 4)
        assert tuple(memory.get_tensor_by_name("states")["on"].shape) == (3, num_envs, 3)

    def test_leaves_are_set_saved_and_loaded(self, make: Callable[..., Memory], tmp_path: Path) -> None:
        """What a Dict or Tuple was made of is in the file too: an empty memory that loads it takes such samples."""
        space = self.nested()
        space.seed(3)
        memory, other = make(2), make(2)
        memory.create_tensor("states", space)
        memory.add_samples(states=space.sample())
        memory.set_tensor_by_name("states", memory.get_tensor_by_name("states"))
        for memory_format in ("pt", "npz", "safetensors"):
            other = make(2)
            other.load(memory.save(tmp_path, memory_format))
            other.add_samples(states=(sample := space.sample()))
            ((states,),) = other.sample_all(["states"])
            np.testing.assert_array_equal(np.asarray(states["image"])[1], sample["image"].ravel())

    def test_samples_of_another_structure_are_refused(self, make: Callable[..., Memory]) -> None:
        """A part that is missing, one too many, or no dict at all is refused by name, and nothing is added."""
        space = self.nested()
        memory = make(2)
        memory.create_tensor("states", space)
        sample = space.sample()
        less, more = {key: sample[key] for key in ("image", "on")}, {**sample, "other": 1}
        for given, error, told in (
            (less, ShapeMismatch, r"`states` was given \['image', 'on'\]; its space has .*`rest`"),
            (more, ShapeMismatch, "`states` was given .*'other'"),
            (np.zeros(9), InvalidValue, "`states` was given a ndarray; .* so give a dict with .*`image`"),
            ({**sample, "rest": sample["rest"][:1]}, ShapeMismatch, r"`states.rest` was given \[0\]"),
            ({**sample, "on": np.zeros(2, np.int8)}, ShapeMismatch, r"`states.on` was given with the shape \(2,\)"),
        ):
            with pytest.raises(error, match=told):
                memory.add_samples(states=given)
        assert len(memory) == 0

    def test_a_space_of_several_values_may_be_flattened(self, make: Callable[..., Memory]) -> None:
        """With a dtype all values go into one tensor, in the order of the space; it takes them flattened or not."""
        space = self.nested()
        space.seed(4)
        memory = make(2, 2)
        memory.create_tensor("states", space, dtype="float32")
        assert tuple(memory.get_tensor_by_name("states").shape) == (2, 2, 10)
        first = space.sample()
        memory.add_samples(states=first)
        flat = np.concatenate([np.ravel(part) for part in (first["image"], first["on"], *first["rest"])])
        memory.add_samples(states=flat.astype(np.float32))
        found = np.asarray(memory.get_tensor_by_name("states"))[0]
        np.testing.assert_array_equal(found, np.stack([flat, flat]).astype(np.float32))

    @pytest.mark.parametrize("space", ["Text(5)", "Sequence(spaces.Discrete(2))", "OneOf((spaces.Discrete(2),))"])
    def test_a_space_without_a_fixed_size_is_refused(self, make: Callable[..., Memory], space: str) -> None:
        """It is refused when its tensor is created, wherever it is in a space, and no tensor is made."""
        spaces = pytest.importorskip("gymnasium").spaces
        variable, memory = space_of(space), make(2)
        for size in (variable, spaces.Dict({"a": spaces.Discrete(2), "z": variable})):
            with pytest.raises(InvalidValue, match="no fixed size"):
                memory.create_tensor("states", size)
        assert memory.get_tensor_names() == []

    def test_a_name_stands_for_one_tensor_or_several(self, make: Callable[..., Memory]) -> None:
        """A name that has leaves is no tensor's, and the other way round; keys may not make one name of two."""
        spaces = pytest.importorskip("gymnasium").spaces
        memory = make(2)
        memory.create_tensor("states", self.nested())
        memory.create_tensor("rewards", 1)
        with pytest.raises(InvalidValue, match="`states` exists as a tensor for each leaf of its space"):
            memory.create_tensor("states", 3)
        with pytest.raises(InvalidValue, match="`rewards` exists as one tensor"):
            memory.create_tensor("rewards", self.nested())
        with pytest.raises(ShapeMismatch, match="`states` exists with other leaves: "):
            memory.create_tensor("states", spaces.Dict({"a": spaces.Discrete(2)}))
        leaf = spaces.Discrete(2)
        with pytest.raises(InvalidValue, match=r"leaves of one name: both\.a\.b, both\.a\.b"):
            memory.create_tensor("both", spaces.Dict({"a": spaces.Dict({"b": leaf}), "a.b": leaf}))

    @pytest.mark.parametrize("number", [1.0, 1, True, np.float32(1), np.float64(1), np.int64(1), [1.0], np.ones(1)])
    def test_one_environment_gives_plain_numbers(self, make: Callable[..., Memory], number: Any) -> None:
        """A number by itself is a sample of a tensor of one element."""
        memory = make(3)
        memory.create_tensor("reward", 1)
        memory.add_samples(reward=number)
        assert np.asarray(memory.get_tensor_by_name("reward"))[0].tolist() == [[1.0]]

    @pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3, 1)])
    def test_single_numbers_need_no_dimension(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], shape: tuple[int, ...]
    ) -> None:
        """Rewards of several environments may be of the shape (num_envs,), as environments return them."""
        memory = make(2, 3)
        memory.create_tensor("rewards", 1)
        memory.add_samples(rewards=array(np.arange(3, dtype=np.float32).reshape(shape)))
        assert np.asarray(memory.get_tensor_by_name("rewards"))[0].tolist() == [[0.0], [1.0], [2.0]]

    @pytest.mark.parametrize(("given", "own", "values"), HELD)
    def test_what_a_dtype_holds_is_taken(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], given: str, own: str, values: list[Any]
    ) -> None:
        """A sample of a narrower dtype is kept as it is; only fractions of 64 bits are rounded."""
        samples = np.array(values, given)[:, None]
        for convert in (array, np.asarray):
            memory = make(8)
            memory.create_tensor("values", 1, dtype=own)
            memory.add_samples(values=convert(samples))
            found = np.asarray(memory.get_tensor_by_name("values", keepdim=False))[: len(samples)]
            np.testing.assert_array_equal(found, samples.astype(own))

    @pytest.mark.parametrize(("given", "own", "values"), NOT_HELD)
    @pytest.mark.parametrize("rows", [1, 2])
    def test_what_a_dtype_does_not_hold_is_refused(
        self,
        make: Callable[..., Memory],
        array: Callable[[NDArray[Any]], Any],
        given: str,
        own: str,
        values: list[Any],
        rows: int,
    ) -> None:
        """A sample never becomes another number: it is refused, by the dtypes, and the error names both."""
        samples = np.array(values * rows, given)[:, None]
        convert: Callable[[NDArray[Any]], Any]
        for convert in (array, np.asarray, lambda values: values.tolist()):
            memory = make(2)
            memory.create_tensor("values", 1, dtype=own)
            with pytest.raises(InvalidValue, match=f"`values` .*{own}|numbers are needed"):
                memory.add_samples(values=convert(samples))
            with pytest.raises(InvalidValue, match=f"`values` .*{own}|numbers are needed"):
                memory.set_tensor_by_name("values", convert(np.resize(samples, (2, 1))))
            assert len(memory) == 0

    def test_wide_numbers_of_numpy_are_looked_at(self, make: Callable[..., Memory]) -> None:
        """NumPy's whole numbers are of 64 bits by default; those that fit are taken, others refused."""
        memory = make(4)
        memory.create_tensor("ids", 1, dtype="int32")
        memory.create_tensor("values", 1, dtype="float32")
        memory.add_samples(ids=np.array([[7]]), values=np.array([[2**24]]))
        memory.add_samples(ids=8, values=3)
        for given in ({"ids": 2**40}, {"ids": np.array([[2**31]])}, {"values": 2**24 + 1}, {"ids": [[2**63]]}):
            with pytest.raises(InvalidValue, match=r"nothing was added|numbers are needed"):
                memory.add_samples(**given)
        assert np.asarray(memory.get_tensor_by_name("ids"))[:2].ravel().tolist() == [7, 8]

    @pytest.mark.parametrize("valid", [[np.nan, 1.0], [0.0, 1.0]])
    def test_fractions_are_no_marks(
        self, make: Callable[..., Memory], array: Callable[[NDArray[Any]], Any], valid: list[float]
    ) -> None:
        """What tells which samples are transitions is true or false, which NaN is not."""
        memory = make(2, 2)
        memory.create_tensor("values", 1)
        with pytest.raises(InvalidValue, match="`valid` was given float32"):
            memory.add_samples(values=array(np.zeros((2, 1), np.float32)), valid=array(np.array(valid, np.float32)))
        assert len(memory) == 0
