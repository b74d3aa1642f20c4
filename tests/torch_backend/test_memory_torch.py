"""RandomMemory on PyTorch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from holdfast.testing.memory import MemoryContract  # noqa: E402
from holdfast_torch.memory import RandomMemory  # noqa: E402


class TestTorchMemory(MemoryContract):
    @pytest.fixture
    def make(self):
        return RandomMemory

    @pytest.fixture
    def array(self):
        return lambda values: torch.from_numpy(np.array(values))


def test_a_tensor_is_the_buffer_itself():
    """Changing what `get_tensor_by_name` returns changes the memory, in either shape."""
    memory = RandomMemory(3, 2)
    memory.create_tensor("values", size=1)
    memory.get_tensor_by_name("values")[1, 1] = 5
    assert memory.get_tensor_by_name("values", keepdim=False)[3].item() == 5


def test_samples_carry_no_graph_into_the_memory():
    """Samples that require gradients are stored without their graph."""
    memory = RandomMemory(2)
    memory.create_tensor("values", size=2)
    memory.add_samples(values=torch.ones(2, requires_grad=True) * 3)
    assert not memory.get_tensor_by_name("values").requires_grad


def test_sampling_follows_the_seed():
    """The same torch seed gives the same batch."""
    memory = RandomMemory(100)
    memory.create_tensor("values", size=1)
    memory.add_samples(values=torch.arange(100.0)[:, None])
    torch.manual_seed(3)
    ((first,),) = memory.sample(["values"], batch_size=10)
    torch.manual_seed(3)
    ((second,),) = memory.sample(["values"], batch_size=10)
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float16", "float64", "uint8", "int64", "bool"])
@pytest.mark.parametrize("memory_format", ["pt", "np", "csv"])
def test_every_dtype_of_pytorch_comes_back(tmp_path, dtype, memory_format):
    """Dtypes that NumPy lacks come back from every format too."""
    memory, other = RandomMemory(4, 2), RandomMemory(4, 2)
    for each in (memory, other):
        each.create_tensor("values", size=3, dtype=getattr(torch, dtype))
    memory.set_tensor_by_name("values", (torch.randn(4, 2, 3) * 3).to(getattr(torch, dtype)))
    memory.filled = True
    other.load(memory.save(tmp_path, format=memory_format))
    original, loaded = memory.get_tensor_by_name("values"), other.get_tensor_by_name("values")
    assert loaded.dtype == original.dtype
    assert torch.equal(loaded.view(torch.uint8), original.view(torch.uint8))


def test_the_pt_file_is_a_plain_dictionary_of_tensors(tmp_path):
    """`torch.load(weights_only=True)` gives the tensors by name, of shape (memory_size, num_envs, size)."""
    memory = RandomMemory(4, 2)
    memory.create_tensor("states", size=3)
    memory.add_samples(states=torch.ones(2, 3))
    loaded = torch.load(memory.save(tmp_path), weights_only=True)
    assert list(loaded) == ["states"]
    assert loaded["states"].shape == (4, 2, 3)


def _add_in_child(memory):
    memory.add_samples(values=torch.full((1, 2), 7.0))


def test_processes_share_a_memory():
    """After `share_memory` a child process writes into the tensors that the parent reads."""
    memory = RandomMemory(3)
    memory.create_tensor("values", size=2)
    memory.share_memory()
    child = torch.multiprocessing.get_context("spawn").Process(target=_add_in_child, args=(memory,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert memory.get_tensor_by_name("values")[0].tolist() == [[7.0, 7.0]]


def test_a_file_of_plain_pytorch_is_a_full_memory(tmp_path):
    """A dictionary of tensors that `torch.save` wrote, as other libraries export memories, is loaded."""
    torch.save({"states": torch.arange(24.0).reshape(4, 2, 3)}, tmp_path / "plain.pt")
    memory = RandomMemory(4, 2)
    memory.load(tmp_path / "plain.pt")
    assert memory.filled
    assert torch.equal(memory.get_tensor_by_name("states"), torch.arange(24.0).reshape(4, 2, 3))
