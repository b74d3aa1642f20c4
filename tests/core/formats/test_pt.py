"""The `.pt` format against PyTorch itself, as reader and as writer."""

from __future__ import annotations

import os
import pickle
import pydoc
import re
import subprocess
import sys
import zipfile
from argparse import Namespace
from array import array
from collections import Counter, OrderedDict, UserDict, UserList, deque
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast.checkpoints.inspection import inspect
from keepfast.errors import CorruptCheckpoint, CorruptMemory, InvalidValue
from keepfast.formats.checkpoints.pt import PtStore
from keepfast.formats.files import sealed_zip
from keepfast.formats.files.torch_archive import read_archive
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.pickles.machine import safe_load
from keepfast.testing.checkpoint_store import random_array
from keepfast.tree import Unread, versions_of
from tests.hostile.making import archive, tensor

torch = pytest.importorskip("torch")
ml_dtypes = pytest.importorskip("ml_dtypes")

pytestmark = pytest.mark.needs("torch", "ml_dtypes")

TORCH_DTYPES = (
    *("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def bits(tensor: Any) -> bytes:
    return bytes(tensor.reshape(-1).clone().view(torch.uint8).numpy()) if tensor.numel() else b""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent_1000.pt"


def save(state: Any, path: Path, **metadata: Any) -> None:
    PtStore().save(Checkpoint(state, metadata), path)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)])
@pytest.mark.parametrize("name", TORCH_DTYPES)
def test_torch_loads_every_dtype(path: Path, name: str, shape: tuple[int, ...], mmap: bool) -> None:
    """`torch.load` gives tensors of the same dtype, shape and bits, read or mapped into memory."""
    array = random_array(dtype_of(name), shape)
    save({"m": {"x": array}}, path)
    tensor = torch.load(path, weights_only=True, mmap=mmap)["m"]["x"]
    assert str(tensor.dtype) == f"torch.{name}"
    assert tuple(tensor.shape) == shape
    assert bits(tensor) == array.tobytes()


def test_torch_loads_plain_containers(path: Path) -> None:
    """`torch.load(weights_only=True)` gives the containers and leaves with their types, and no metadata."""
    state = {
        "policy": OrderedDict(weight=1, bias=2),
        "optimizer": {"state": {0: {"step": 3.0}}, "param_groups": [{"betas": (0.9, 0.999), "foreach": None}]},
        "scheduler": {"milestones": Counter({30: 1}), "names": {"a", "b"}, "z": 1 + 2j, "raw": b"\0\xff", "none": b""},
        "numbers": [True, False, 0, -1, 2**31, -(2**63), 2**64, 2**200, 1e-300, "ünïcödé"],
    }
    save(state, path, timestep=1000)
    loaded = torch.load(path, weights_only=True)
    assert loaded == state
    assert type(loaded["policy"]) is OrderedDict
    assert type(loaded["scheduler"]["milestones"]) is Counter


def test_a_module_and_an_optimizer_load_from_it(path: Path) -> None:
    """State dicts written from NumPy arrays load into a module and an optimizer with plain PyTorch."""
    net, optimizer = _trained()
    save({"net": _as_numpy(net.state_dict()), "optimizer": _as_numpy(optimizer.state_dict())}, path)
    other = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    other_optimizer = torch.optim.Adam(other.parameters())
    loaded = torch.load(path, weights_only=True)
    other.load_state_dict(loaded["net"])
    other_optimizer.load_state_dict(loaded["optimizer"])
    assert str(other.state_dict()) == str(net.state_dict())
    assert str(other_optimizer.state_dict()) == str(optimizer.state_dict())


def test_arrays_over_the_same_memory_are_stored_once(path: Path) -> None:
    """Tied weights, also transposed ones, take their bytes once and are tied again after loading."""
    weight = random_array(np.dtype(np.float32), (256, 512))
    save({"encoder": weight, "decoder": weight, "head": weight.T, "flat": weight.reshape(-1)}, path)
    assert path.stat().st_size < weight.nbytes + 4096
    loaded = torch.load(path, weights_only=True)
    assert len({tensor.untyped_storage().data_ptr() for tensor in loaded.values()}) == 1
    assert bits(loaded["head"]) == weight.T.tobytes()
    ours = PtStore().load(path).state
    assert np.shares_memory(ours["encoder"], ours["head"])


def test_two_dtypes_at_one_address_are_two_arrays(path: Path) -> None:
    """PyTorch gives a storage the dtype it was first named with, so that each dtype has a storage of its own."""
    integers = np.arange(5, dtype=np.int32)
    save({"integers": integers, "floats": integers.view(np.float32)}, path)
    loaded = torch.load(path, weights_only=True)
    assert (loaded["integers"].dtype, loaded["floats"].dtype) == (torch.int32, torch.float32)
    assert bits(loaded["floats"]) == integers.tobytes()


def test_arrays_of_two_lengths_at_one_address_are_two(path: Path) -> None:
    """The shorter does not lend the longer its few bytes, whichever comes first."""
    whole = np.arange(5, dtype=np.int32)
    save({"begin": whole[:2], "whole": whole, "end": whole[:3]}, path)
    loaded = torch.load(path, weights_only=True)
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        "begin": [0, 1], "whole": [0, 1, 2, 3, 4], "end": [0, 1, 2]
    }  # fmt: skip


def test_tensors_of_two_dtypes_over_one_storage_share_it(path: Path) -> None:
    """PyTorch stores the bytes of dtypes without a class of their own once, and here they are in memory once, too."""
    numbers = torch.tensor([1, 2, 3, 4], dtype=torch.uint16)
    torch.save({"narrow": numbers, "wide": numbers.view(torch.uint32)}, path)
    found = read_archive(path)[0]
    assert (found["narrow"].tolist(), found["wide"].tolist()) == ([1, 2, 3, 4], [1 + (2 << 16), 3 + (4 << 16)])
    assert np.shares_memory(found["narrow"], found["wide"])


def test_a_view_does_not_bring_its_whole_buffer(path: Path) -> None:
    """A small view of a large array is stored with its own bytes only."""
    large = random_array(np.dtype(np.float32), (1024, 1024))
    save({"row": large[3], "column": large[:, 3]}, path)
    assert path.stat().st_size < 16_384
    assert bits(torch.load(path, weights_only=True)["column"]) == large[:, 3].tobytes()


def test_records_lie_where_torch_calculates_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout is so exactly PyTorch's that its calculated offsets hold, which its own assertions check."""
    from torch.utils.serialization import config

    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")
    arrays = {str(n): random_array(np.dtype(np.int16), (n * 37 % 500,), seed=n) for n in range(40)}
    save(arrays, path)
    with config.patch("load.calculate_storage_offsets", True):
        loaded = torch.load(path, weights_only=True, mmap=True)
    assert {name: bits(tensor) for name, tensor in loaded.items()} == {n: a.tobytes() for n, a in arrays.items()}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_the_archive_is_the_one_that_torch_writes(path: Path, tmp_path: Path) -> None:
    """But for the pickle's wording and our two additions, the records and all headers are those of `torch.save`."""
    arrays = {"a": np.arange(10, dtype=np.float32), "b": np.zeros(0, np.float32), "c": np.arange(6, dtype=np.uint16)}
    save(arrays, path)
    theirs = tmp_path / "archive.pt"
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, theirs)
    ours, reference = _records(path), _records(theirs)
    assert ours.keys() - reference.keys() == {"archive/keepfast.json"}
    assert reference.keys() - ours.keys() == {"archive/.data/serialization_id"}
    for name in ours.keys() & reference.keys() - {"archive/data.pkl"}:
        assert ours[name] == reference[name], name


def test_archives_beyond_four_gigabytes_are_written_as_miniz_does(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sizes and offsets need 64 bits (here from 1000 bytes on), zip readers, PyTorch and we read them."""
    monkeypatch.setattr(sealed_zip, "ZIP64_LIMIT", 1000)
    arrays = {"large": random_array(np.dtype(np.uint8), (5000,)), "small": random_array(np.dtype(np.uint8), (10,))}
    save(arrays, path)
    monkeypatch.undo()
    with zipfile.ZipFile(path) as archive:
        assert archive.read("archive/data/0") == arrays["large"].tobytes()
        assert archive.read("archive/data/1") == arrays["small"].tobytes()


@pytest.mark.skipif("KEEPFAST_LARGE" not in os.environ, reason="writes four gigabytes")
def test_a_tensor_of_more_than_four_gigabytes_comes_back(path: Path) -> None:
    """An archive with a record above and one behind four gigabytes loads in PyTorch, mapped into memory, and here."""
    large = np.zeros(2**32 + 16, np.uint8)
    large[-16:] = np.arange(16)
    save({"large": large, "behind": np.arange(7)}, path)
    loaded = torch.load(path, weights_only=True, mmap=True)
    assert loaded["behind"].tolist() == list(range(7))
    assert loaded["large"][-16:].tolist() == list(range(16))
    del loaded, large
    ours = PtStore().load(path).state
    assert ours["large"].shape == (2**32 + 16,)
    assert ours["large"][-16:].tolist() == list(range(16))
    path.unlink()


@pytest.mark.needs("torch", "jax", "flax")
def test_writing_and_reading_import_no_framework(path: Path) -> None:
    """A process that writes and reads a .pt file has neither PyTorch nor JAX loaded."""
    code = f"""
import sys, numpy, keepfast
from pathlib import Path
from keepfast.formats.checkpoints.pt import PtStore
PtStore().save(keepfast.Checkpoint({{"m": {{"x": numpy.ones((2, 3))}}}}), Path({str(path)!r}))
assert PtStore().load(Path({str(path)!r})).state["m"]["x"].shape == (2, 3)
print(sorted(set(sys.modules) & {{"torch", "jax", "flax"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_of_torch_save_are_read(path: Path) -> None:
    """State dicts that `torch.save` wrote come back bit for bit, their versions with them, with no metadata."""
    net, optimizer = _trained()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, path)
    tree, metadata = read_archive(path)
    assert metadata == {}
    assert type(tree["net"]) is OrderedDict
    assert versions_of(tree["net"]) == net.state_dict()._metadata
    assert {name: array.tobytes() for name, array in tree["net"].items()} == {
        name: bits(tensor) for name, tensor in net.state_dict().items()
    }
    assert tree["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_versions_that_many_state_dicts_share_are_read_once(path: Path) -> None:
    """A state dict of nothing costs a few bytes, and what is hung on all of them is not copied for each of them."""
    told = OrderedDict((str(number), {"version": number, "more": [1], 3: 4}) for number in range(100))
    states = [OrderedDict() for _ in range(50)]
    for state in states:
        state._metadata = told
    torch.save({"weight": torch.ones(1), "states": states, "odd": _with_metadata(7)}, path)
    tree, _ = read_archive(path)
    assert versions_of(tree["states"][0]) == {name: {"version": int(name)} for name in told}
    assert len({id(versions_of(state)) for state in tree["states"]}) == 1
    assert versions_of(tree["odd"]) is None


def _with_metadata(told: Any) -> OrderedDict[str, Any]:
    state: OrderedDict[str, Any] = OrderedDict()
    state._metadata = told
    return state


FOREIGN = {
    "strided": lambda: torch.arange(24.0).reshape(4, 6)[::2, 1::3],
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).T,
    "expanded": lambda: torch.ones(1).expand(4),
    "parameter": lambda: torch.nn.Parameter(torch.ones(2, 2)),
    "frozen": lambda: torch.nn.Parameter(torch.ones(2), requires_grad=False),
    "conjugated": lambda: torch.tensor([1 + 2j, 3j]).conj(),
    "negated": lambda: torch.tensor([1 + 2j, 3 + 4j]).conj().imag,
    "empty": lambda: torch.zeros(0, 3),
    "scalar": lambda: torch.tensor(3),
    "bfloat16": lambda: torch.arange(5, dtype=torch.bfloat16),
    "float8": lambda: torch.arange(5).to(torch.float8_e4m3fn),
    "uint16": lambda: torch.ones(5, dtype=torch.uint16),
    "buffer": lambda: torch.nn.Buffer(torch.ones(2)) if hasattr(torch.nn, "Buffer") else torch.ones(2),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tensors_of_every_make_are_read(path: Path, name: str, protocol: int) -> None:
    """Strided, shared, conjugated and other tensors of `torch.save` are read as their values."""
    tensor = FOREIGN[name]()
    torch.save({"t": tensor}, path, pickle_protocol=protocol)
    array = read_archive(path)[0]["t"]
    expected = tensor.detach().resolve_conj().resolve_neg().contiguous()
    assert tuple(array.shape) == tuple(expected.shape)
    assert str(array.dtype) == str(expected.dtype).removeprefix("torch.")
    assert np.ascontiguousarray(array).tobytes() == bits(expected)


def test_what_is_no_tensor_is_read_as_plain_data(path: Path) -> None:
    """Sizes become tuples; dtypes, devices and storages, which nothing plain stands for, are told as unread."""
    torch.save(
        {
            "size": torch.Size([1, 2]),
            "dtype": torch.float32,
            "device": torch.device("cuda:1"),
            "storage": torch.ones(3).untyped_storage(),
            "of numpy": np.dtype("f4"),
            "class": torch.Tensor,
            "bytes": bytearray(b"ab"),
            "set": {1},
            "counter": Counter("aab"),
        },
        path,
    )
    expected = {"size": (1, 2), "bytes": b"ab", "set": {1}, "counter": Counter("aab")}
    unread = {
        "dtype": "torch.float32",
        "device": "torch.device",
        "storage": "torch.storage.UntypedStorage",
        "of numpy": "numpy.dtype",
        "class": "torch.Tensor",
    }
    assert read_archive(path)[0] == {**expected, **{key: Unread(name) for key, name in unread.items()}}


class OfSomebody:
    """An object that other tools leave beside weights."""

    def __init__(self) -> None:
        self.rate = 0.1


class ListOfSomebody(list[Any]):
    """A list with a class of its own."""


class DictOfSomebody(dict[Any, Any]):
    """A dict with a class of its own."""


NEIGHBOURS: dict[str, Any] = {
    "argparse.Namespace": lambda: Namespace(lr=0.1),
    "types.SimpleNamespace": lambda: SimpleNamespace(lr=0.1),
    f"{__name__}.OfSomebody": OfSomebody,
    f"{__name__}.ListOfSomebody": lambda: ListOfSomebody([torch.ones(1), 2]),
    f"{__name__}.DictOfSomebody": lambda: DictOfSomebody(a=torch.ones(1), b=2),
    "torch.optim.adam.Adam": lambda: torch.optim.Adam,
    "collections.deque": lambda: deque([1, 2]),
    "datetime.timedelta": lambda: timedelta(1),
    "pathlib": lambda: Path("x"),
    "numpy.ndarray of U4": lambda: np.array(["text"]),
    "numpy.ndarray of O8": lambda: np.array([None, {}], object),
    "numpy.ndarray of M8": lambda: np.zeros(2, "M8[s]"),
    "numpy.random": lambda: np.random.default_rng(0),
    "torch._utils._rebuild_sparse_tensor": lambda: torch.eye(2).to_sparse(),
    "torch._utils._rebuild_qtensor": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "torch.nn.modules.linear.Linear": lambda: torch.nn.Linear(1, 1),
    "torch.device": lambda: torch.device("cpu"),
    "torch.bfloat16": lambda: torch.bfloat16,
    "torch.storage.UntypedStorage": lambda: torch.ones(3).untyped_storage(),
    "dict by torch.device": lambda: {torch.device("cpu"): 1},
    "torch.Tensor of bits8": lambda: torch.zeros(2, dtype=torch.uint8).view(torch.bits8),
    "torch.Tensor of float4_e2m1fn_x2": lambda: torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    "torch.Tensor of complex32": lambda: torch.zeros(2, dtype=torch.complex32),
    "builtins.Ellipsis": lambda: ...,
    "builtins.NotImplemented": lambda: NotImplemented,
    "UserDict": lambda: UserDict(a=1),
    "UserList": lambda: UserList([1]),
    "array": lambda: array("f", [1.0]),
    "re._compile": lambda: re.compile("x"),
    "ipaddress.IPv4Address": lambda: ip_address("127.0.0.1"),
}
"""What stands beside weights, by how the name begins that it is told by."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_what_stands_beside_weights_is_left_unread(
    name: str, protocol: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither imported nor called; the weights are read, and who asks for it is told what it is."""
    content = {"model": {"w": torch.ones(2)}, "other": [NEIGHBOURS[name](), 7], "epoch": 3}
    torch.save(content, path, pickle_protocol=protocol)
    for kind in (OfSomebody, ListOfSomebody, DictOfSomebody):
        monkeypatch.delattr(sys.modules[__name__], kind.__name__)
    found = keepfast.read_checkpoint(path)["module"]
    assert (found["model"]["w"].tolist(), found["epoch"], found["other"][1]) == ([1.0, 1.0], 3, 7)
    unread = found["other"][0]
    assert isinstance(unread, Unread)
    # NumPy pickles text as bytes of a buffer in protocol 5, by a function without a stand-in
    names = (name, f"collections.{name}")  # where older protocols write the name that it had in Python 2
    assert unread.name.startswith("numpy" if protocol == 5 and name.startswith("numpy.ndarray") else names)
    other = {"w": torch.zeros(2)}
    assert keepfast.load(other, path, modules=["model"])
    assert other["w"].tolist() == [1, 1]
    with pytest.raises(keepfast.LoadMismatch, match=f"Unread `{re.escape(unread.name)}`"):
        keepfast.load(other, path, modules=["other"])
    entries = inspect(path).modules[path.stem]
    assert f"Unread `{unread.name}`" in [entry.what for entry in entries]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "name",
    [
        "builtins.exec",
        "builtins.eval",
        "os.system",
        "subprocess.Popen",
        "builtins.getattr",
        "pickle.loads",
        "shutil.rmtree",
    ],
)
def test_code_beside_weights_is_refused(name: str, protocol: int, path: Path) -> None:
    """What Python's own library could run is not taken for harmless, under the names of Python 2 neither."""
    torch.save({"model": torch.ones(2), "x": pydoc.locate(name)}, path, pickle_protocol=protocol)
    with pytest.raises(CorruptCheckpoint, match="carries code"):
        PtStore().load(path)


@pytest.mark.parametrize("named", ["posix\nsystem", "nt\nsystem", "commands\ngetoutput", "torch\nos.system"])
def test_code_is_known_by_any_of_its_names(named: str, path: Path) -> None:
    """Those of other systems, and those by which another library has it."""
    archive(path, b"(" + tensor((1,), (1,)) + b"c" + named.encode() + b"\nt.")
    with pytest.raises(CorruptCheckpoint, match="carries code"):
        PtStore().load(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_of_torchscript_is_refused_as_one(path: Path) -> None:
    """The error says what to save in its place."""
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(path))
    with pytest.raises(CorruptCheckpoint, match="is a TorchScript module, a program"):
        PtStore().load(path)


@pytest.mark.parametrize("name", ["net.pth", "net.ckpt", "net.bin", "net", "net.tar", "net.safetensors"])
def test_a_file_is_read_by_its_content(name: str, tmp_path: Path) -> None:
    """Whatever it is called: what PyTorch wrote, and what Keepfast wrote in another format."""
    saved, other = {"w": torch.ones(2)}, {"w": torch.zeros(2)}
    torch.save(saved, tmp_path / name)
    assert keepfast.load(other, tmp_path / name)
    assert other["w"].tolist() == [1, 1]
    content = keepfast.save({"w": torch.full((2,), 3.0)}, tmp_path / "x.safetensors").read_bytes()
    (tmp_path / name).write_bytes(content)
    assert keepfast.load(other, tmp_path / name)
    assert other["w"].tolist() == [3, 3]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor_is_refused_by_its_path(layout: Any, tmp_path: Path) -> None:
    """It has no one shape, and a file cannot hold it."""
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
    with pytest.raises(keepfast.UnsupportedModule, match="`w` is a "):
        keepfast.save({"w": nested}, tmp_path / "x.pt")


def test_compressed_archives_are_read(path: Path, tmp_path: Path) -> None:
    """An archive that a zip tool has packed again is one for PyTorch; what could be a thousand times larger in memory
    is not."""
    source = tmp_path / "source.pt"
    for count, kind in ((1000, zipfile.ZIP_DEFLATED), (1000, zipfile.ZIP_BZIP2), (1 << 24, zipfile.ZIP_DEFLATED)):
        torch.save({"x": torch.zeros(count, dtype=torch.int64)}, source)
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", kind, compresslevel=1) as new:
            for record in old.namelist():
                new.writestr(record, old.read(record))
        if (count, kind) == (1000, zipfile.ZIP_DEFLATED):
            assert read_archive(path)[0]["x"].tolist() == torch.load(path, weights_only=True)["x"].tolist()
        else:
            with pytest.raises(keepfast.Unreadable, match="compress"):
                read_archive(path)


class Malice:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Malice(), "builtins.exec"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (Path("x"), "pathlib"),
        (print, "builtins.print"),
        (pickle.loads, "pickle.loads"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_files_that_carry_code_are_refused(path: Path, value: Any, name: str) -> None:
    """Whatever names more than tensors and plain containers is refused with the name of what it would run."""
    torch.save({"x": value}, path)
    with pytest.raises(CorruptCheckpoint, match=rf"carries code, `{name}") as caught:
        PtStore().load(path)
    assert str(path) in str(caught.value)


def test_a_sparse_tensor_alone_is_told_as_what_cannot_be_read(path: Path) -> None:
    """It is no code for PyTorch, so the error says that it is Keepfast that has no such tensor."""
    torch.save({"x": torch.ones(2).to_sparse()}, path)
    with pytest.raises(keepfast.Unreadable, match=r"nothing but `torch\._utils\._rebuild_sparse_tensor`") as caught:
        PtStore().load(path)
    assert str(path) in str(caught.value)


def test_numbers_of_numpy_are_read(path: Path) -> None:
    """Beside tensors, as those are that libraries keep of rewards: an array without dimensions each."""
    torch.save({"x": np.float32(1.5), "y": np.arange(3)}, path)
    found = PtStore().load(path).state
    assert (found["x"].dtype, float(found["x"]), found["y"].tolist()) == (np.float32, 1.5, [0, 1, 2])


CALLABLE = {
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._tensor._rebuild_from_type_v2",
    "torch.Size",
    "torch.device",
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.set",
    "builtins.complex",
    "builtins.bytearray",
    "_codecs.encode",
    "builtins.bytes",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "jax._src.array._reconstruct_array",
}
"""All that a file may have called; what stands in for each is tested above and below."""


def test_nothing_else_may_be_called(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name that a file may use is here, with a reason to be: the others it may use stand for text alone."""
    tables: list[Any] = []

    def noting(file: Any, admitted: Any, *rest: Any) -> Any:
        tables.append(admitted)
        return safe_load(file, admitted, *rest)

    monkeypatch.setattr("keepfast.formats.files.torch_pickle.safe_load", noting)
    save({"x": np.ones(2)}, path)
    PtStore().load(path)
    (admitted,) = tables
    assert {name for name, meaning in admitted.items() if callable(meaning)} == CALLABLE
    assert all(meaning == name for name, meaning in admitted.items() if name not in CALLABLE)


def _doubled(kind: int) -> bytes:
    """Return a pickle of 200 bytes that holds 2**40 entries: each container holds the one before it twice."""
    levels = (b"(h%ch%c%cq%c" % (n, n, kind, n + 1) for n in range(40))
    return b"\x80\x02K\x01q\0" + b"".join(levels) + b"."


ATTACKS = {
    "changes a function that stands in": b"ctorch._utils\n_rebuild_tensor_v2\n}(X\x08\x00\x00\x00__dict__K\x01ub.",
    "calls a result": b"ccollections\nOrderedDict\n)R)R.",
    "makes a class": b"ccollections\nOrderedDict\n)\x81X\x01\x00\x00\x00a}b.",
    "gives a storage that is none": b"\x80\x02X\x04\x00\x00\x00evil\x85Q.",
    "leaves a function": b"ctorch._utils\n_rebuild_tensor_v2\n.",
    "has a function for a key": b"}ctorch._utils\n_rebuild_tensor_v2\nK\x01s.",
    "contains itself": b"\x80\x02]q\x00h\x00a.",
    "reads a number as a size": b"ctorch\nSize\nK\x01\x85R.",
    "encodes with any codec": b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    "is cut": b"\x80\x02}X\xff\x00\x00\x00",
    "asks for much memory": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "asks for many zeros": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\1\x85R.",
    "names a device by a list": b"\x80\x02ctorch\ndevice\n]\x85R.",
    "doubles lists": _doubled(ord(pickle.LIST)),
    "doubles tuples": _doubled(ord(pickle.TUPLE)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_pickles_made_to_hurt_are_refused(path: Path, attack: str) -> None:
    """A pickle that misuses what is admitted is refused as any damaged one is, and changes nothing here."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", ATTACKS[attack])
        archive.writestr("archive/version", "3\n")
    with pytest.raises(CorruptCheckpoint, match="damaged"):
        PtStore().load(path)


@pytest.mark.parametrize(
    "arguments",
    [
        "(0, (3,), (1,))",
        "(-1, (2,), (1,))",
        "(1, (2,), (1,))",
        "(0, (2,), (1000,))",
        "(0, (-2,), (1,))",
        "(1, (2,), (-1,))",
        "(0, (2, 2), (1,))",
        "('a', (2,), (1,))",
        "(0, (2**70,), (1,))",
    ],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(path: Path, arguments: str) -> None:
    """A pickle that describes a tensor outside of its storage cannot make us read other memory."""
    save({"x": np.arange(2.0)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist() if not name.endswith("keepfast.json")}
    good, bad = _described(path, (0, (2,), (1,))), _described(path, eval(arguments))
    assert good in records["archive/data.pkl"]
    records["archive/data.pkl"] = records["archive/data.pkl"].replace(good, bad)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    with pytest.raises(CorruptCheckpoint, match="damaged"):
        PtStore().load(path)


def test_an_archive_inside_a_tensor_is_not_taken_for_the_file(path: Path) -> None:
    """A file whose tensor holds the bytes of another checkpoint, truncated right behind them, is damaged."""
    save({"inner": np.arange(3)}, path)
    inner = path.read_bytes()
    save({"outer": np.frombuffer(inner, np.uint8)}, path)
    outer = path.read_bytes()
    path.write_bytes(outer[: outer.index(inner) + len(inner)])
    with pytest.raises(CorruptCheckpoint, match="damaged"):
        PtStore().load(path)


def test_an_archive_of_torch_inside_a_tensor_is_not_taken_for_the_file(path: Path) -> None:
    """Nor where PyTorch wrote both, without a seal: readers of zips allow anything before an archive."""
    torch.save({"inner": torch.arange(3)}, path)
    inner = path.read_bytes()
    torch.save({"outer": torch.frombuffer(bytearray(inner), dtype=torch.uint8)}, path)
    outer = path.read_bytes()
    path.write_bytes(outer[: outer.index(inner) + len(inner)])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    with pytest.raises(CorruptCheckpoint, match="does not describe this file"):
        PtStore().load(path)


@pytest.mark.parametrize("size", [8, 24])
def test_a_storage_of_another_size_than_its_reference_tells_is_refused(path: Path, size: int) -> None:
    """A longer one too, though the tensor lies within it: who wrote either did not write the other."""
    save({"x": np.arange(2.0)}, path)
    records = {name: content for name, (_, content) in _records(path).items() if not name.endswith("keepfast.json")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (records | {"archive/data/0": bytes(size)}).items():
            archive.writestr(name, content)
    with pytest.raises(CorruptCheckpoint, match=f"has {size} bytes where 16 belong"):
        PtStore().load(path)


def test_an_archive_without_its_seal_is_refused(path: Path) -> None:
    """By whoever cut it off, and told zip readers that there was no comment."""
    save({"x": np.arange(2.0)}, path, timestep=7)
    content = path.read_bytes()
    ended = content.rindex(b"PK\5\6") + 20
    path.write_bytes(content[:ended] + b"\0\0")
    with pytest.raises(CorruptCheckpoint, match="seal is not what was written"):
        PtStore().load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("content", [bytes(16), b""])
def test_two_records_of_one_name_are_refused(path: Path, content: bytes) -> None:
    """Of which readers take the first, or the last."""
    torch.save({"x": torch.arange(2.0)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data/0"))
        archive.writestr(name, content)
    with pytest.raises(CorruptCheckpoint, match="two records of one name"):
        PtStore().load(path)


def test_a_file_of_another_byte_order_is_read(path: Path) -> None:
    """Its numbers are those that PyTorch gives, of every dtype."""
    tensors = {
        name: torch.arange(8, dtype=torch.uint8).repeat(4).view(getattr(torch, name)).clone()
        for name in ("float64", "float32", "bfloat16", "int16", "complex64", "uint8")
    }
    torch.save(tensors, path)
    other = "big" if sys.byteorder == "little" else "little"
    records = {name: content for name, (_, content) in _records(path).items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, other if name.endswith("byteorder") else content)
    theirs, ours = torch.load(path, weights_only=True), PtStore().load(path).state
    assert {name: tensor.tobytes() for name, tensor in ours.items()} == {
        name: bits(tensor) for name, tensor in theirs.items()
    }
    assert ours["float32"].tobytes() != tensors["float32"].numpy().tobytes()


def test_the_layout_of_old_torch_is_explained(path: Path) -> None:
    """A file in PyTorch's layout before 1.6 is not read here, which the error says with the line that converts it."""
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(keepfast.Unreadable, match=r"torch\.save\(torch\.load\(path, weights_only=True\), path\)"):
        PtStore().load(path)


def test_damage_is_raised_as_the_callers_error(path: Path) -> None:
    """Whoever reads an archive says which error its damage is: memories use the same archives."""
    path.write_bytes(b"PK\3\4 not an archive")
    with pytest.raises(CorruptMemory, match=path.name):
        read_archive(path, CorruptMemory)


def test_damage_in_files_of_torch_is_noticed_in_every_record(path: Path) -> None:
    """A file of `torch.save` has no seal, but the CRC-32 of each record is checked, used or not."""
    torch.save({"x": torch.arange(100)}, path)
    intact = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        contents = {name: archive.read(name) for name in names}
    for name in names:
        place = intact.index(contents[name], intact.index(name.encode()) + len(name))
        damaged = bytearray(intact)
        damaged[place + len(contents[name]) // 2] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CorruptCheckpoint):
            PtStore().load(path)


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (2**3000, "an integer of"),
        (np.zeros(2, np.longdouble), "longdouble|float128|longdouble"),
        (np.array(["a"]), "<U1"),
        (np.zeros(2, "M8[s]"), "datetime64"),
        (object(), "builtins.object"),
    ],
    ids=["huge integer", "long double", "strings", "dates", "object"],
)
def test_what_torch_does_not_have_is_named(path: Path, leaf: Any, message: str) -> None:
    """A leaf that PyTorch's format has no place for raises InvalidValue with its path, and nothing is written."""
    with pytest.raises(InvalidValue, match=rf"`policy\.0`.*({message})"):
        save({"policy": [leaf]}, path)
    assert list(path.parent.iterdir()) == []


def _trained() -> tuple[Any, Any]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()
    return net, optimizer


def _as_numpy(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.numpy()
    if isinstance(tree, dict):
        return {key: _as_numpy(child) for key, child in tree.items()}
    if isinstance(tree, list):
        return [_as_numpy(child) for child in tree]
    return tree


def _records(path: Path) -> dict[str, tuple[bytes, bytes]]:
    """Return each record's own bytes, and all that precedes them but the padding, whose length depends on others'."""
    content, records = path.read_bytes(), {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            header = content[info.header_offset : info.header_offset + 28] + bytes([info.flag_bits >> 8])
            records[info.filename] = header, archive.read(info)
    return records


def _described(path: Path, arguments: tuple[Any, ...]) -> bytes:
    """Return how the offset, shape and strides of a tensor stand in a pickle of ours."""
    from keepfast.formats.files.torch_pickle import TreePickler

    offset, shape, strides = arguments
    return TreePickler().dumps([offset, shape, strides])[len(b"\x80\2](") : -len(b"e.")]
