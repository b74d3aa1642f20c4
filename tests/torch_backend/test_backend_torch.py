"""TorchBackend knows what is PyTorch's, holds values without waiting, and keeps random numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
import keepfast_torch  # noqa: E402
from keepfast.testing.checkpoint_store import assert_same  # noqa: E402

backend = keepfast_torch.TorchBackend()


class WithTensors:
    def state_dict(self) -> Any:
        return {"mean": [torch.zeros(1)]}

    def load_state_dict(self, state: Any) -> None:
        """Take nothing: only its presence counts here."""


class WithNumbers(WithTensors):
    def state_dict(self) -> Any:
        return {"mean": 0.0}


def memory() -> Any:
    return keepfast_torch.RandomMemory(4, device="cpu")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.nn.Linear(1, 1),
        lambda: torch.nn.DataParallel(torch.nn.Linear(1, 1)),
        lambda: torch.optim.Adam([torch.zeros(1)]),
        lambda: torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.zeros(1)], lr=0.1), 1),
        lambda: torch.amp.GradScaler("cpu"),
        lambda: torch.zeros(1),
        lambda: torch.nn.Parameter(torch.zeros(1)),
        lambda: torch.Generator(),
        lambda: {"a": [1, (torch.zeros(1),)]},
        lambda: [torch.zeros(1)],
        WithTensors,
        memory,
    ],
)
def test_what_is_pytorchs_is_recognized(make: Any) -> None:
    """Objects of PyTorch, containers of its tensors and objects with tensors in their state are recognized."""
    assert backend.recognizes(make()) is True


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": np.zeros(1)},
        lambda: [1, "a"],
        dict,
        lambda: np.zeros(1),
        lambda: torch.float32,
        lambda: torch.device("cpu"),
        lambda: torch.Size([1]),
        lambda: torch.nn.Linear,
        lambda: torch,
        WithNumbers,
        lambda: WithTensors,
    ],
)
def test_what_is_not_pytorchs_is_not_recognized(make: Any) -> None:
    """Plain containers, NumPy arrays, classes, and objects whose state has no tensors are left to others."""
    assert backend.recognizes(make()) is False


@pytest.mark.needs("jax", "flax")
def test_what_is_jaxs_is_not_recognized() -> None:
    """Arrays, pytrees and modules of JAX and Flax are not taken for PyTorch's."""
    import jax
    from flax import nnx

    for module in (
        jax.numpy.zeros(1),
        {"params": jax.numpy.zeros(1)},
        jax.random.key(0),
        nnx.Linear(1, 1, rngs=nnx.Rngs(0)),
    ):
        assert backend.recognizes(module) is False


def test_an_object_without_tensors_is_captured_beside_others(tmp_path: Any) -> None:
    """An object that only has a state dict is captured by the backend of the modules it is registered with."""
    agent = keepfast.Agent(models={"policy": torch.nn.Linear(1, 1), "counter": WithNumbers()})
    saved = torch.load(agent.save(tmp_path / "agent.pt"), weights_only=True)
    assert saved["counter"] == {"mean": 0.0}


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(4.0),
        torch.arange(4.0, requires_grad=True),
        torch.nn.Parameter(torch.tensor(2.5)),
        torch.arange(6.0).view(2, 3).t(),
        torch.tensor([1.0]).expand(3),
        torch.tensor([1 + 2j]).conj().imag,
        torch.tensor([1 + 2j]).conj(),
        torch.tensor([True, False]),
        torch.zeros(0, 2),
    ],
)
def test_any_tensor_is_held_and_fetched(tensor: Any) -> None:
    """Whatever its strides, sign bits or gradients, a held tensor is fetched with its values, shape and dtype."""
    (fetched,) = backend.fetch([backend.hold(tensor)])
    assert_same(fetched, np.array(tensor.tolist(), str(tensor.dtype).removeprefix("torch.")).reshape(tensor.shape))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2])
def test_dtypes_that_numpy_lacks_are_held_and_fetched(dtype: Any) -> None:
    """bfloat16 and float8 are fetched as `ml_dtypes` has them, mixed with others, after being overwritten."""
    low, high = torch.tensor([1.5, -2.0]).to(dtype), torch.tensor([3.0, 4.0])
    held = [backend.hold(tensor) for tensor in (low, high, low[0], low.clone())]
    low.zero_()
    fetched = backend.fetch(held)
    assert [str(array.dtype) for array in fetched] == [str(dtype)[6:], "float32", str(dtype)[6:], str(dtype)[6:]]
    assert [array.astype(float).tolist() for array in fetched] == [[1.5, -2.0], [3.0, 4.0], 1.5, [1.5, -2.0]]


def test_fetched_arrays_begin_where_their_items_may() -> None:
    """However odd the number of bytes that others of the same transfer have."""
    tensors = [torch.ones(3).to(torch.float8_e5m2), torch.ones(1, dtype=torch.bfloat16), torch.ones(2) * 1j]
    fetched = backend.fetch([backend.hold(tensor) for tensor in tensors])
    assert [array.flags.aligned for array in fetched] == [True] * 3
    assert [array.astype(complex).tolist() for array in fetched] == [[1.0] * 3, [1.0], [1j] * 2]


def test_the_random_state_of_the_cpu_is_an_array() -> None:
    """The state is made of NumPy arrays, does not move on with the generator, and leaves absent devices alone."""
    torch.manual_seed(3)
    state = backend.random_state()
    kept = state["cpu"].copy()
    expected = torch.rand(4)
    assert_same(state["cpu"], kept)
    backend.set_random_state({**state, "mps": None} if not torch.backends.mps.is_available() else state)
    assert torch.equal(torch.rand(4), expected)


def test_importing_the_package_does_not_load_pytorch() -> None:
    """`import keepfast_torch` costs next to nothing; its names are loaded at their first use."""
    code = (
        "import sys, keepfast_torch; assert 'torch' not in sys.modules\n"
        "assert dir(keepfast_torch) == sorted(keepfast_torch.__all__)\n"
        "assert all(hasattr(keepfast_torch, name) for name in keepfast_torch.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_pytorch_the_error_says_what_to_run() -> None:
    """Where PyTorch is not installed, the names of the package say which extra installs it."""
    code = "import sys; sys.modules['torch'] = None; import keepfast_torch; keepfast_torch.TorchBackend"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = '`keepfast_torch.TorchBackend` needs `torch`, which is not installed; run: pip install "keepfast[torch]"'
    assert done.stderr.splitlines()[-1] == f"keepfast.errors.MissingDependency: {expected}"


def test_a_name_that_the_package_lacks_is_an_attribute_error() -> None:
    """An unknown name of the package raises AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="`keepfast_torch` has no attribute `Policy`"):
        _ = keepfast_torch.Policy


def test_the_demo_is_there() -> None:
    """`keepfast demo --backend torch` has a function to run."""
    pytest.importorskip("gymnasium")
    assert callable(backend.demo())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_not_waited_for_until_values_are_fetched() -> None:
    """Holding tensors of a GPU synchronises nothing; a later change on the GPU does not reach them."""
    value = torch.ones(64, 1, device="cuda", requires_grad=True)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        held = [backend.hold(value), backend.hold(value.bfloat16()), backend.hold(value > 0)]
        with torch.no_grad():
            value.zero_()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [array.astype(float).sum() for array in backend.fetch(held)] == [64, 64, 64]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_random_state_of_every_gpu_comes_back() -> None:
    """Random numbers of a GPU repeat from where the state was taken."""
    torch.rand(1, device="cuda")
    state = backend.random_state()
    expected = torch.rand(4, device="cuda")
    backend.set_random_state(state)
    assert torch.equal(torch.rand(4, device="cuda"), expected)


def test_a_tensor_without_memory_is_kept_as_zeros(tmp_path: Path) -> None:
    """What PyTorch makes of a gradient that is known to be zero is saved, migrated and registered as its numbers."""
    zero = torch._efficientzerotensor((2,))
    path = keepfast.save({"a": zero}, tmp_path / "zero.pt")
    assert keepfast.read_checkpoint(path)["module"]["a"].tolist() == [0, 0]
    layer, given = torch.nn.Linear(2, 1), {"weight": (1, 2), "bias": (1,)}
    keepfast.migrate(layer, state_dict={name: torch._efficientzerotensor(size) for name, size in given.items()})
    assert [*layer.weight.flatten().tolist(), *layer.bias.tolist()] == [0, 0, 0]
