"""Modules, tensors and containers of PyTorch are captured under their own names and restored bit for bit."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402
from keepfast.testing.checkpoint_store import assert_same  # noqa: E402
from keepfast_torch import TorchBackend  # noqa: E402
from keepfast_torch.arrays import DTYPES  # noqa: E402
from keepfast_torch.containers import like  # noqa: E402

nn = torch.nn
backend = TorchBackend()


def host(module: Any) -> Any:
    """Return what a checkpoint would hold of a module."""
    return backend.host_copy(backend.capture(module))


def same_bits(module: Any, other: Any) -> bool:
    """Say whether two modules hold the same bits under the same names."""
    ours, theirs = module.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(
        torch.equal(value.reshape(-1).view(torch.uint8), theirs[name].reshape(-1).view(torch.uint8))
        for name, value in ours.items()
    )


MODULES = {
    "Linear": lambda: nn.Linear(4, 3),
    "no bias": lambda: nn.Linear(4, 3, bias=False),
    "Sequential": lambda: nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 2))),
    "Conv2d in channels_last": lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4),
    "InstanceNorm with statistics": lambda: nn.InstanceNorm1d(4, track_running_stats=True),
    "LSTM": lambda: nn.LSTM(4, 3, num_layers=2),
    "Embedding": lambda: nn.Embedding(5, 2),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
    "ParameterDict": lambda: nn.ParameterDict({"a": torch.randn(2), "b": torch.randn(())}),
    "AveragedModel": lambda: torch.optim.swa_utils.AveragedModel(nn.Linear(4, 3)),
    "float64": lambda: nn.Linear(4, 3).double(),
    "bfloat16": lambda: nn.Linear(4, 3).bfloat16(),
    "complex": lambda: nn.Linear(4, 3, dtype=torch.complex64),
    "nothing in it": lambda: nn.Tanh(),
}


@pytest.mark.parametrize("extension", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", [name for name in MODULES if name != "nothing in it"])
def test_every_kind_of_module_comes_back_from_a_file(name: str, extension: str, tmp_path: Path) -> None:
    """A module of any kind is saved under PyTorch's names, and another of its kind gets every bit of it."""
    torch.manual_seed(0)
    module = MODULES[name]()
    keepfast.save(module, tmp_path / f"module{extension}")
    torch.manual_seed(1)
    other = MODULES[name]()
    parameters = list(other.parameters())
    report = keepfast.load(other, tmp_path / f"module{extension}")
    assert same_bits(other, module)
    assert report.loaded == [f"module.{entry}" for entry in module.state_dict()]
    assert all(ours is theirs for ours, theirs in zip(other.parameters(), parameters, strict=True))


def test_a_module_without_state_is_captured_as_nothing() -> None:
    """A module that has no parameters has an empty state, and takes it back."""
    assert host(nn.Tanh()) == {}
    backend.restore(nn.Tanh(), {})


def test_memory_formats_stay_and_files_are_in_c_order() -> None:
    """A channels_last weight is copied in C order, and stays channels_last when it is restored."""
    module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    saved = host(module)
    assert saved["weight"].flags.c_contiguous
    other = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    backend.restore(other, saved)
    assert other.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(other.weight, module.weight)


def compiled(module: Any) -> Any:
    return torch.compile(module, backend="eager")


def test_a_compiled_module_is_kept_under_its_own_names(tmp_path: Path) -> None:
    """A file of a compiled module has no trace of that, and loads into a plain one and into a compiled one."""
    module = nn.Linear(4, 3)
    assert list(backend.capture(compiled(module))) == ["weight", "bias"]
    keepfast.save(compiled(module), tmp_path / "policy.pt")
    for other in (nn.Linear(4, 3), compiled(nn.Linear(4, 3)), nn.DataParallel(nn.Linear(4, 3))):
        assert keepfast.load(other, tmp_path / "policy.pt")
        assert np.array_equal(host(other)["weight"], host(module)["weight"])


def test_files_with_the_prefixes_of_wrappers_load(tmp_path: Path) -> None:
    """State dicts that PyTorch saved of compiled and data-parallel modules load into a plain module."""
    module = nn.Linear(4, 3)
    for wrapped in (compiled(module), nn.DataParallel(module), compiled(nn.DataParallel(module))):
        torch.save(wrapped.state_dict(), tmp_path / "policy.pt")
        other = nn.Linear(4, 3)
        assert keepfast.load(other, tmp_path / "policy.pt")
        assert same_bits(other, module)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(300, 300, bias=False), nn.Linear(300, 300, bias=False)
        self.decoder.weight = self.encoder.weight


def test_tied_weights_are_copied_and_stored_once(tmp_path: Path) -> None:
    """Two names of one tensor share one array, one record of the file, and stay tied when they are loaded."""
    module = Tied()
    saved = host(module)
    assert saved["encoder.weight"] is saved["decoder.weight"]
    path = keepfast.save(module, tmp_path / "tied.pt")
    assert path.stat().st_size < 1.1 * module.encoder.weight.nbytes
    other = Tied()
    keepfast.load(other, path)
    assert other.decoder.weight is other.encoder.weight
    assert same_bits(other, module)


def test_tensors_that_only_overlap_are_copied_apart() -> None:
    """Views of one memory that differ in place, shape or sign bits are not mistaken for each other."""
    base = torch.arange(6.0)
    complexes = torch.tensor([1 + 2j, 3 - 4j])
    views = {"all": base, "head": base[:3], "tail": base[3:], "grid": base.view(2, 3), "turned": base.view(3, 2).t()}
    signs = {
        "plain": complexes,
        "conjugate": complexes.conj(),
        "negative": complexes.conj().imag,
        "part": complexes.imag,
    }
    for name, tensor in (views | signs).items():
        copied = host({**views, **signs})[name]
        assert np.array_equal(copied, np.array(tensor.tolist()).reshape(tensor.shape)), name
    square = torch.arange(4.0).view(2, 2)
    assert host({"square": square, "turned": square.t()})["turned"].tolist() == [[0, 2], [1, 3]]


@final
class Versioned(torch.nn.Linear):
    """Notes which version of itself it is given the state of, as modules do that read their older states."""

    _version = 7
    seen: Any = None

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        self.seen = metadata.get("version")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_the_parts_of_a_module_are_told_their_versions(tmp_path: Path) -> None:
    """A file has none, so that they are those of the module that takes the state."""
    net, other = (torch.nn.Sequential(Versioned(2, 2)) for _ in range(2))
    keepfast.load(other, keepfast.save(net, tmp_path / "net.pt"))
    assert other[0].seen == 7


def test_a_tensor_goes_where_the_one_in_its_place_is() -> None:
    """A device without values stands for any other here; where there is nothing, it stays on the CPU."""
    own = {"there": torch.empty(2, device="meta"), "here": torch.empty(2)}
    made = like(own, {"there": np.ones(2), "here": np.ones(2), "new": np.ones(2)})
    assert {key: tensor.device.type for key, tensor in made.items()} == {"there": "meta", "here": "cpu", "new": "cpu"}


@pytest.mark.parametrize("name", sorted(str(dtype) for dtype in DTYPES))
def test_every_dtype_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Tensors of any dtype that NumPy or ml_dtypes has keep every bit, with and without dimensions, through a file."""
    dtype = getattr(torch, name.removeprefix("torch."))
    for shape in ((), (6,), (2, 3)):
        bits = torch.randint(0, 2 if dtype == torch.bool else 256, (*shape, dtype.itemsize), dtype=torch.uint8)
        tensor = bits.view(dtype).reshape(shape)
        path = keepfast.save(tensor, tmp_path / f"tensor{len(shape)}.pt")
        other = torch.zeros(shape, dtype=dtype)
        keepfast.load(other, path)
        assert torch.equal(other.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_a_tensor_is_overwritten_for_everybody_who_holds_it() -> None:
    """A restored parameter is the same object with the same memory, and still wants its gradient."""
    parameter = nn.Parameter(torch.zeros(3))
    view = parameter.detach()
    backend.restore(parameter, np.arange(3, dtype=np.float32))
    assert view.tolist() == [0, 1, 2]
    assert parameter.requires_grad
    assert parameter.is_leaf


def test_plain_numbers_stand_for_tensors_without_dimensions() -> None:
    """A file's number goes into a 0-d tensor, and its 0-d array into a number, as the module has it."""
    module = {"steps": torch.tensor(1, dtype=torch.int32), "scale": 1.0}
    backend.restore(module, {"steps": 7, "scale": np.array(2.5)})
    assert module["steps"].item() == 7
    assert module["steps"].dtype == torch.int32
    assert module["scale"] == 2.5
    assert isinstance(module["scale"], float)


def test_containers_keep_their_tensors_and_their_types() -> None:
    """In a dictionary tensors are overwritten and the rest is replaced, down to named tuples."""
    mean = torch.zeros(2)
    container: dict[str, Any] = defaultdict(list, {"mean": mean, "history": [1, (torch.zeros(1), "old")]})
    backend.restore(container, {"mean": np.ones(2, np.float32), "history": [2, (np.ones(1, np.float32), "new")]})
    assert container["mean"] is mean
    assert mean.tolist() == [1, 1]
    assert container["history"] == [2, (torch.ones(1), "new")]
    assert isinstance(container, defaultdict)


def test_a_tuple_is_replaced_and_the_old_one_stays_what_it_was(tmp_path: Path) -> None:
    """The hidden state of a recurrent policy is a tuple: a restore gives a new one, through `keepfast.attribute`."""

    class Owner:
        hidden = (torch.zeros(2), torch.ones(2))

    owner = Owner()
    before = owner.hidden
    module = keepfast.attribute(owner, "hidden")
    assert backend.replaces(before)
    path = keepfast.save((torch.full((2,), 5.0), torch.full((2,), 6.0)), tmp_path / "hidden.pt")
    keepfast.load(module, path)
    assert [tensor.tolist() for tensor in owner.hidden] == [[5, 5], [6, 6]]
    assert [tensor.tolist() for tensor in before] == [[0, 0], [1, 1]]


class WithExtraState(nn.Module):
    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.layer, self.extra = nn.Linear(1, 1), extra

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


def test_extra_state_travels_with_its_types(tmp_path: Path) -> None:
    """What `get_extra_state` gives comes back to `set_extra_state` as it was: tensors, arrays, numbers, containers."""
    extra = {
        "tensor": torch.tensor([1.0, 2.0]),
        "array": np.arange(3),
        "number": 3,
        "nested": [(None, True, "text", b"bytes", {1, 2}), OrderedDict(a=torch.tensor(4.5))],
        7: 2.5,
    }
    path = keepfast.save(WithExtraState(extra), tmp_path / "module.pt")
    other = WithExtraState(
        {
            "tensor": torch.zeros(2),
            "array": np.zeros(3, int),
            "number": 0,
            "nested": copy.deepcopy(extra["nested"]),
            7: 0.0,
        }
    )
    keepfast.load(other, path)
    assert torch.equal(other.extra["tensor"], extra["tensor"])
    assert_same(other.extra["array"], extra["array"])
    assert (other.extra["number"], other.extra[7]) == (3, 2.5)
    assert other.extra["nested"][0] == extra["nested"][0]
    assert torch.equal(other.extra["nested"][1]["a"], torch.tensor(4.5))


def test_numpy_numbers_become_pythons() -> None:
    """A NumPy number among the state becomes the equal number of Python, so that any reader takes it."""
    captured = backend.capture({"lr": np.float64(0.1), "count": np.int32(3), "tensor": torch.zeros(1)})
    assert (captured["lr"], captured["count"]) == (0.1, 3)
    assert (type(captured["lr"]), type(captured["count"])) == (float, int)


def test_entries_the_file_lacks_keep_their_values() -> None:
    """Where a module is not loaded strictly, its own live tensors stand in the tree and are left as they are."""
    module = nn.Linear(2, 2)
    before = module.bias.detach().clone()
    state = dict(backend.capture(module))
    backend.restore(module, {**state, "weight": np.full((2, 2), 3, np.float32)})
    assert torch.equal(module.weight, torch.full((2, 2), 3.0))
    assert torch.equal(module.bias, before)


def test_a_state_of_another_shape_is_refused() -> None:
    """Where shapes or names differ, the error names them; a tensor of another shape is not broadcast."""
    with pytest.raises(keepfast.LoadMismatch, match=r"(?s)Linear.*size mismatch for weight"):
        backend.restore(nn.Linear(2, 2), {"weight": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)})
    with pytest.raises(keepfast.LoadMismatch, match=r"\(2, 3\).*\(3,\)"):
        backend.restore(torch.zeros(2, 3), np.zeros(3, np.float32))
    with pytest.raises(keepfast.LoadMismatch, match=r"`a\.b` has the shape \(2,\).*str"):
        backend.restore({"a": {"b": torch.zeros(2)}}, {"a": {"b": "text"}})


class Wrapper(torch.Tensor):
    """A tensor that says it is made of others, as distributed and quantized ones do."""

    def __tensor_flatten__(self) -> Any:
        return ["inner"], None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (object, keepfast.UnsupportedModule, r"builtins\.object has no state.*allowed: modules, optimizers"),
        (lambda: len, keepfast.UnsupportedModule, "builtin_function_or_method"),
        (lambda: nn.Linear, keepfast.UnsupportedModule, "builtins.type"),
        (
            lambda: {"nets": [nn.Linear(1, 1)]},
            keepfast.UnsupportedModule,
            r"`nets\.0` is a torch\.nn.*\.Linear.*register it under a name of its own",
        ),
        (lambda: WithExtraState({"f": [len]}), keepfast.UnsupportedModule, r"`_extra_state\.f\.0` is a builtins\."),
        (
            lambda: WithExtraState({object: 1}),
            keepfast.UnsupportedModule,
            r"`_extra_state` has the key <class 'object'>",
        ),
        (lambda: torch.eye(3).to_sparse(), keepfast.UnsupportedModule, r"`\(root\)` is a torch.sparse_coo tensor"),
        (
            lambda: [torch.zeros(2).as_subclass(Wrapper)],
            keepfast.UnsupportedModule,
            "`0` is a .*Wrapper, which has its",
        ),
        (lambda: {"a": torch.zeros(2, dtype=torch.complex32)}, keepfast.UnsupportedModule, "`a` is .*complex32"),
        (lambda: {"a": np.array([object()])}, keepfast.UnsupportedModule, "`a` is a numpy.ndarray"),
        (lambda: nn.Linear(2, 2, device="meta"), keepfast.UsageError, "`weight` is on the device `meta`"),
    ],
)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_what_cannot_be_captured_is_named(make: Any, error: type[Exception], message: str) -> None:
    """An object without state, and a part that no file can hold, raise an error with the path and what is allowed."""
    with pytest.raises(error, match=message):
        backend.capture(make())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_modules_move_between_devices() -> None:
    """A state copied from a GPU restores on the CPU and the other way round; `device` moves the module first."""
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).cuda()
    saved = host(module)
    other = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    backend.restore(other, saved)
    assert {parameter.device.type for parameter in other.parameters()} == {"cpu"}
    assert_same(host(other), saved)
    backend.restore(other, saved, "cuda")
    assert {parameter.device.type for parameter in other.parameters()} == {"cuda"}
    assert_same(host(other), saved)
