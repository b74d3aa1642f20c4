"""RandomMemory on JAX."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import keepfast  # noqa: E402
from keepfast.errors import InvalidValue, LoadMismatch  # noqa: E402
from keepfast.interfaces.memory_exporter import MemorySnapshot  # noqa: E402
from keepfast.testing.memory.whole import MemoryContract  # noqa: E402
from keepfast_jax.memory import JaxStorage, RandomMemory  # noqa: E402
from tests.both_backends.fitting import FitSuite  # noqa: E402


class TestJaxMemory(MemoryContract):
    @pytest.fixture
    def make(self):
        return RandomMemory

    @pytest.fixture
    def array(self):
        return jax.numpy.array


class TestJaxFit(FitSuite):
    @pytest.fixture
    def make(self):
        return RandomMemory


def test_a_random_memory_is_a_memory_with_its_storage():
    """It changes no call of `keepfast.Memory`."""
    assert isinstance(RandomMemory(2).storage, JaxStorage)
    assert {name for name in vars(RandomMemory) if name in dir(keepfast.Memory)} <= {*dir(object), "__module__"}
    assert {name for name in vars(RandomMemory) if not name.startswith("_")} == set()


def test_a_memory_is_pickled_as_it_is_at_one_moment():
    """Samples that a thread adds meanwhile are in the copy whole, of all tensors and in its place, or not at all."""
    memory, done = RandomMemory(16, 2), threading.Event()
    memory.create_tensor("first", size=1)
    memory.create_tensor("second", size=1)

    def add():
        step = 0
        while not done.is_set():
            row = np.full((2, 1), step, np.float32)
            memory.add_samples(first=row, second=row)
            step += 1

    with ThreadPoolExecutor() as threads:
        adding = threads.submit(add)
        try:
            for _ in range(100):
                snapshot = pickle.loads(pickle.dumps(memory)).snapshot()
                first, second = snapshot.chronological()["first"], snapshot.chronological()["second"]
                np.testing.assert_array_equal(first, second)
                np.testing.assert_array_equal(np.diff(first[:, 0, 0]), np.ones(max(len(first) - 1, 0)))
        finally:
            done.set()
        adding.result()


def test_adding_does_not_copy_the_buffer():
    """The buffer keeps its place in memory when samples are added."""
    memory = RandomMemory(1000, 2)
    memory.create_tensor("values", size=2)
    memory.add_samples(values=np.ones((2, 2)))
    before = memory.storage.buffers["values"].unsafe_buffer_pointer()
    memory.add_samples(values=np.ones((2, 2)))
    assert memory.storage.buffers["values"].unsafe_buffer_pointer() == before


def test_what_was_returned_stays_as_it_was():
    """Arrays returned earlier keep their values, though the buffer is updated in place."""
    memory = RandomMemory(2, 2)
    memory.create_tensor("values", size=1)
    memory.add_samples(values=np.ones((2, 1)))
    memory.add_samples(values=np.ones((2, 1)))
    returned = [
        memory.get_tensor_by_name("values"),
        memory.get_tensor_by_name("values", keepdim=False),
        memory.sample_all(["values"])[0][0],
        memory.sample(["values"], 4)[0][0],
        memory.state_dict()["tensors"]["values"],
    ]
    memory.add_samples(values=np.full((2, 1), 5.0))
    assert all((np.asarray(array) == 1).all() for array in returned)


def test_sampling_follows_the_seed():
    """The same NumPy seed gives the same batch."""
    memory = RandomMemory(100)
    memory.create_tensor("values", size=1)
    memory.add_samples(values=np.arange(100.0)[:, None])
    np.random.seed(3)  # noqa: NPY002  (the generator that the memory documents)
    ((first,),) = memory.sample(["values"], batch_size=10)
    np.random.seed(3)  # noqa: NPY002  (the generator that the memory documents)
    ((second,),) = memory.sample(["values"], batch_size=10)
    np.testing.assert_array_equal(first, second)


WIDE = {
    "actions": (np.arange(8, dtype=np.int64) - 4, "int32"),
    "seeds": (np.arange(8, dtype=np.uint64), "uint32"),
    "rewards": (
        np.array([0.5, -0.0, np.nan, np.inf, -1.25, 0, 1e30, 2**-149]).astype(np.float32) * np.float64(1),
        "float32",
    ),
}


@pytest.fixture(params=[False])
def wide(request):
    """Return a memory of 64-bit values, while JAX has 64 bits or, as it comes, has not."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    tensors = {name: values.reshape(4, 2, 1).copy() for name, (values, _) in WIDE.items()}
    yield MemorySnapshot(tensors, 0, 0, filled=True)
    jax.config.update("jax_enable_x64", before)


def test_64_bits_are_loaded_as_32_where_that_changes_no_value(wide):
    """A memory exported on PyTorch, with its int64 actions, loads on JAX as JAX comes, into tensors or into none."""
    empty, memory = RandomMemory(4, 2), RandomMemory(4, 2)
    for name, (values, _) in WIDE.items():
        memory.create_tensor(name, 1, values.dtype)
    for each in (empty, memory):
        each.restore(wide)
        for name, (values, dtype) in WIDE.items():
            loaded = np.asarray(each.get_tensor_by_name(name, keepdim=False))[:, 0]
            assert str(loaded.dtype) == dtype
            assert loaded.astype(values.dtype).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("name", "value"), [("actions", 2**31), ("seeds", 2**32), ("rewards", 0.1), ("rewards", 1e300)]
)
def test_64_bits_that_32_do_not_hold_are_refused(wide, name, value):
    """One value that would change is enough for LoadMismatch, which names the tensor and how to keep 64 bits."""
    wide.tensors[name][3, 1] = value
    memory = RandomMemory(4, 2)
    with pytest.raises(LoadMismatch, match=f"`{name}` has the dtype .*JAX_ENABLE_X64=1"):
        memory.restore(wide)
    assert memory.get_tensor_names() == []


@pytest.mark.parametrize("wide", [True], indirect=True)
def test_64_bits_stay_64_where_jax_has_them(wide):
    """With `jax_enable_x64` a memory takes the tensors as they are, whatever their values."""
    wide.tensors["actions"][3, 1] = 2**62
    memory = RandomMemory(4, 2)
    memory.restore(wide)
    assert str(memory.get_tensor_by_name("rewards").dtype) == "float64"
    assert memory.get_tensor_by_name("actions")[3, 1, 0] == 2**62


def test_other_dtypes_are_no_match(wide):
    """Only what JAX itself would narrow is converted: int64 is no int16, and int32 no int64."""
    memory = RandomMemory(4, 2)
    memory.create_tensor("actions", 1, "int16")
    with pytest.raises(LoadMismatch, match="`actions` has the dtype int64 in the file and int16 in the memory"):
        memory.restore(MemorySnapshot({"actions": wide.tensors["actions"]}, 0, 0, filled=True))


def test_a_tensor_of_64_bits_is_created_once():
    """Creating a tensor again with the dtype that JAX narrowed the first time changes nothing."""
    memory = RandomMemory(4)
    assert memory.create_tensor("actions", 1, "int64") is True
    assert memory.create_tensor("actions", 1, "int64") is False


def test_traced_samples_are_refused():
    """Adding within `jax.jit`, which would leave a tracer in the memory, raises InvalidValue."""
    memory = RandomMemory(4)
    memory.create_tensor("values", 3)
    with pytest.raises(InvalidValue, match=r"`values` was given a .*Tracer.*outside of `jax\.jit`"):
        jax.jit(lambda values: memory.add_samples(values=values))(np.ones((1, 3)))
    assert not memory.snapshot().tensors["values"].any()


@pytest.mark.parametrize("device", ["cpu:99", "cpu:-1", "cpu:x", "banana", "tpu", 3])
def test_a_device_that_is_not_there_is_refused(device):
    """A device that JAX does not have raises InvalidValue, which tells what was given and lists what there is."""
    with pytest.raises(InvalidValue, match=f"there is no device `{device}`; known: .*cpu:0"):
        RandomMemory(2, device=device)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "uint8", "int32", "bool"])
@pytest.mark.parametrize("memory_format", ["pt", "np", "csv"])
def test_every_dtype_of_jax_comes_back(tmp_path, dtype, memory_format):
    """Dtypes that NumPy lacks come back from every format too."""
    memory, other = RandomMemory(4, 2), RandomMemory(4, 2)
    memory.create_tensor("values", size=3, dtype=dtype)
    values = jax.numpy.asarray(np.random.default_rng(1).normal(size=(4, 2, 3)) * 3).astype(dtype)
    memory.set_tensor_by_name("values", values)
    memory.filled = True
    other.load(memory.save(tmp_path, format=memory_format))
    assert np.asarray(other.get_tensor_by_name("values")).tobytes() == np.asarray(values).tobytes()
