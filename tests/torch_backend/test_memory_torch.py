"""RandomMemory on PyTorch."""

import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
from keepfast.errors import InvalidValue  # noqa: E402
from keepfast.testing.memory.whole import MemoryContract  # noqa: E402
from keepfast_torch.memory import RandomMemory, TorchStorage  # noqa: E402
from tests.both_backends.fitting import FitSuite  # noqa: E402


class TestTorchMemory(MemoryContract):
    @pytest.fixture
    def make(self):
        return RandomMemory

    @pytest.fixture
    def array(self):
        return lambda values: torch.from_numpy(np.array(values))


class TestTorchFit(FitSuite):
    @pytest.fixture
    def make(self):
        return RandomMemory


def test_a_random_memory_is_a_memory_with_its_storage():
    """It changes no call of `keepfast.Memory`; only sharing between processes is PyTorch's own."""
    assert isinstance(RandomMemory(2).storage, TorchStorage)
    assert {name for name in vars(RandomMemory) if name in dir(keepfast.Memory)} <= {*dir(object), "__module__"}
    assert {name for name in vars(RandomMemory) if not name.startswith("_")} == {"share_memory"}


def test_a_tensor_is_the_buffer_itself():
    """Changing what `get_tensor_by_name` returns changes the memory, in either shape."""
    memory = RandomMemory(3, 2)
    memory.create_tensor("values", size=1)
    memory.get_tensor_by_name("values")[1, 1] = 5
    assert memory.get_tensor_by_name("values", keepdim=False)[3].item() == 5


@pytest.mark.parametrize("device", ["cuda:99", "cpu:-1", "cuda:x", "banana", "xla", "privateuseone", "", 1.5])
def test_a_device_that_is_not_there_is_refused(device):
    """A device that PyTorch does not have raises InvalidValue, which tells what was given and lists what there is."""
    with pytest.raises(InvalidValue, match=f"there is no device `{device}`; known: cpu"):
        RandomMemory(2, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are CUDA devices")
@pytest.mark.parametrize("device", ["cuda", torch.device("cuda"), "cuda:0", 0, "mps" if sys.platform == "linux" else 0])
def test_an_accelerator_is_refused_where_there_is_none(device):
    """Where PyTorch is installed for the CPU, a memory on an accelerator is refused when it is made."""
    with pytest.raises(InvalidValue, match=f"there is no device `{device}`; known: cpu$"):
        RandomMemory(2, device=device)


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


def test_inference_mode_makes_no_difference():
    """A tensor that is created or added to in inference mode takes samples outside of it, and the other way round."""
    memory = RandomMemory(4)
    with torch.inference_mode():
        memory.create_tensor("values", size=2)
        memory.add_samples(values=torch.ones(1, 2))
    memory.add_samples(values=torch.ones(1, 2))
    with torch.inference_mode():
        memory.add_samples(values=torch.ones(1, 2))
    assert memory.snapshot().tensors["values"].sum() == 6


def test_samples_on_another_device_are_never_asked_for():
    """On an accelerator nothing but a copy of the memory waits for it: `meta` has no values to wait for."""
    memory = RandomMemory(8, 2, device="meta")
    memory.create_tensor("states", size=3)
    memory.add_samples(states=torch.ones(8, 2, 3, device="meta"))
    memory.add_samples(states=torch.ones(1, 2, 3, device="meta"))
    places = torch.arange(16, device="meta")
    found = [
        memory.sample(["states"], 7, mini_batches=3),
        memory.sample(["states"], 7, mini_batches=3, sequence_length=2),
        memory.sample_all(["states"], mini_batches=3),
        memory.sample_all(["states"], mini_batches=3, sequence_length=2),
        memory.sample_by_index(["states"], places, mini_batches=3),
        memory.sample_by_index(["states"], [1, 2, 3], mini_batches=3),
    ]
    sizes = [[len(states) for (states,) in parts] for parts in found]
    assert sizes == [[3, 2, 2], [6, 4, 4], [6, 5, 5], [6, 6, 4], [6, 5, 5], [1, 1, 1]]
    assert all(states.device.type == "meta" for parts in found for (states,) in parts)
    assert len(memory.get_sampling_indexes()) == 14


@pytest.mark.parametrize("dtype", ["float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"])
def test_rare_dtypes_come_back_too(tmp_path, dtype):
    """The float8 dtypes that few know are kept bit for bit, in memory and in the files of PyTorch."""
    memory, other = RandomMemory(4, 2), RandomMemory(4, 2)
    memory.create_tensor("values", size=3, dtype=getattr(torch, dtype))
    for _ in range(3):
        memory.add_samples(values=(torch.rand(2, 3) * 3).to(getattr(torch, dtype)))
    other.load(memory.save(tmp_path))
    original, loaded = memory.get_tensor_by_name("values"), other.get_tensor_by_name("values")
    assert loaded.dtype == original.dtype
    assert torch.equal(loaded[:3].view(torch.uint8), original[:3].view(torch.uint8))
    assert not memory.snapshot().tensors["values"][3].view(np.uint8).any()


@pytest.mark.parametrize("dtype", [torch.complex32, torch.qint8])
def test_dtypes_that_files_cannot_hold_are_refused(dtype):
    """A dtype that no memory file can hold is refused when its tensor is created, not when it is saved."""
    memory = RandomMemory(4)
    with pytest.raises(
        InvalidValue, match=r"memory files cannot hold the dtype (complex32|qint8); allowed: bfloat16, "
    ):
        memory.create_tensor("values", size=3, dtype=dtype)
    assert memory.get_tensor_names() == []


@pytest.mark.parametrize("dtype", [">f4", ">i8"])
def test_samples_of_any_byte_order_are_taken(dtype):
    """NumPy arrays of the other byte order, and reversed or read-only ones, are samples like any other."""
    memory = RandomMemory(4)
    memory.create_tensor("values", size=3)
    given = np.arange(6).reshape(2, 3).astype(dtype)[::-1]
    given.flags.writeable = False
    memory.add_samples(values=given)
    assert memory.get_tensor_by_name("values")[:2, 0].tolist() == [[3, 4, 5], [0, 1, 2]]


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked there")
def test_a_child_forked_in_the_midst_of_a_call_goes_on():
    """A child is not left waiting for a lock that a thread of its parent held when it was forked."""
    script = """
import os, signal, sys, threading
from keepfast_torch import RandomMemory
memory, held, forked = RandomMemory(3), threading.Event(), threading.Event()
memory.create_tensor("values", size=2)
def hold():
    with memory._lock:
        held.set()
        forked.wait(60)
holder = threading.Thread(target=hold)
holder.start()
held.wait(60)
if not (child := os.fork()):
    signal.alarm(30)
    memory.reset()
    os._exit(0)
forked.set()
holder.join()
sys.exit(os.waitpid(child, 0)[1])
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
