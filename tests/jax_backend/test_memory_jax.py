"""RandomMemory on JAX."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from holdfast.errors import InvalidValue  # noqa: E402
from holdfast.testing.memory import MemoryContract  # noqa: E402
from holdfast_jax.memory import RandomMemory  # noqa: E402


class TestJaxMemory(MemoryContract):
    @pytest.fixture
    def make(self):
        return RandomMemory

    @pytest.fixture
    def array(self):
        return jax.numpy.array


def test_adding_does_not_copy_the_buffer():
    """The buffer keeps its place in memory when samples are added."""
    memory = RandomMemory(1000, 2)
    memory.create_tensor("values", size=2)
    memory.add_samples(values=np.ones((2, 2)))
    before = memory._flat["values"].unsafe_buffer_pointer()
    memory.add_samples(values=np.ones((2, 2)))
    assert memory._flat["values"].unsafe_buffer_pointer() == before


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


def test_a_dtype_that_jax_would_narrow_is_refused(tmp_path):
    """A file of 64-bit values is not silently loaded as 32-bit ones."""
    from holdfast.memory import MemorySnapshot
    from holdfast.memory_formats.npz import NpzExporter

    NpzExporter().save(MemorySnapshot({"values": np.zeros((2, 1, 1))}, 0, 0, filled=True), tmp_path / "wide.npz")
    with pytest.raises(InvalidValue, match="jax_enable_x64"):
        RandomMemory(2).load(tmp_path / "wide.npz")


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
