"""The `.safetensors` format against the safetensors library itself, as reader and as writer."""

from __future__ import annotations

import importlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from keepfast.errors import CorruptCheckpoint, Unreadable
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.testing.checkpoint_store import random_array

NATIVE = (
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent_1000.safetensors"


def save(state: Any, path: Path, **metadata: Any) -> None:
    SafetensorsStore().save(Checkpoint(state, metadata), path)


@pytest.mark.parametrize("name", NATIVE)
def test_the_library_loads_every_dtype(path: Path, name: str) -> None:
    """`safetensors.numpy.load_file` gives each array under its path, with its dtype, shape and bits."""
    array = random_array(np.dtype(name), (3, 5))
    save({"policy": {"net": [{"weight": array}]}, "step": 3}, path)
    loaded = safetensors.numpy.load_file(path)
    assert list(loaded) == ["policy.net.0.weight"]
    assert loaded["policy.net.0.weight"].dtype == array.dtype
    assert loaded["policy.net.0.weight"].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "framework", [pytest.param(name, marks=pytest.mark.needs(name, "ml_dtypes")) for name in ("torch", "flax")]
)
def test_the_readers_of_frameworks_load_it(path: Path, framework: str) -> None:
    """The readers of both frameworks give their tensors and arrays, bfloat16 among them."""
    import ml_dtypes

    state = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.arange(4).astype(ml_dtypes.bfloat16)}
    save({"policy": state}, path)
    loaded = importlib.import_module(f"safetensors.{framework}").load_file(path)
    assert {name: str(array.dtype).removeprefix("torch.") for name, array in loaded.items()} == {
        "policy.a": "float32",
        "policy.b": "bfloat16",
    }
    assert loaded["policy.a"].tolist() == state["a"].tolist()
    assert loaded["policy.b"].tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.needs("ml_dtypes")
@pytest.mark.parametrize("name", ["complex128", "float8_e4m3b11fnuz", "int4", "float8_e3m4"])
def test_dtypes_that_it_lacks_are_stored_as_bytes(path: Path, name: str) -> None:
    """A dtype that safetensors has no tag for is there as bytes for others, and itself again for us."""
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    array = random_array(np.dtype(np.uint8), (6 * dtype.itemsize,)).view(dtype).reshape(2, 3)
    save({"x": array}, path)
    stored = safetensors.numpy.load_file(path)["x"]
    assert (stored.dtype, stored.shape) == (np.uint8, (2, 3, dtype.itemsize))
    loaded = SafetensorsStore().load(path).state["x"]
    assert (loaded.dtype, loaded.tobytes()) == (dtype, array.tobytes())


def test_arrays_begin_where_their_items_do(path: Path) -> None:
    """Every array begins at a multiple of its item's size, so that it can be mapped into memory."""
    save({"a": np.ones(3, np.int8), "b": np.ones(2, np.float64), "c": np.ones(5, np.float16)}, path)
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert [header[name]["data_offsets"][0] % size for name, size in (("a", 1), ("b", 8), ("c", 2))] == [0, 0, 0]


@pytest.mark.parametrize("length", range(1, 9))
def test_the_header_ends_where_an_array_may_begin(path: Path, length: int) -> None:
    """At a multiple of eight bytes, however long the names in it are."""
    save({"x" * length: np.ones(2)}, path)
    content = path.read_bytes()
    assert struct.unpack_from("<Q", content)[0] % 8 == 0
    assert content.index(np.ones(2).tobytes()) % 8 == 0


def test_entries_with_one_path_are_both_kept(path: Path) -> None:
    """Two entries whose paths are the same text, or a name that safetensors reserves, each get a name."""
    save({"a.b": np.ones(1), "a": {"b": np.zeros(2)}, "__metadata__": np.ones(3)}, path)
    assert sorted(safetensors.numpy.load_file(path)) == ["__metadata__~2", "a.b", "a.b~2"]
    assert SafetensorsStore().load(path).state["a"]["b"].tolist() == [0.0, 0.0]


def test_tied_arrays_are_there_under_both_names(path: Path) -> None:
    """Arrays over the same memory are each there under their name, as readers of state dicts expect."""
    weight = np.arange(6.0)
    save({"encoder": weight, "decoder": weight}, path)
    assert sorted(safetensors.numpy.load_file(path)) == ["decoder", "encoder"]


def test_files_of_the_library_are_read_as_flat_dicts(path: Path) -> None:
    """A file that safetensors wrote gives its arrays by name, writable, and no metadata of ours."""
    arrays = {"a.weight": random_array(np.dtype(np.float32), (3, 4)), "b": np.zeros((0, 2), np.int64)}
    safetensors.numpy.save_file(arrays, path, metadata={"format": "np"})
    loaded = SafetensorsStore().load(path)
    assert loaded.metadata == {}
    assert {name: array.tobytes() for name, array in loaded.state.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert loaded.state["b"].shape == (0, 2)
    assert loaded.state["a.weight"].flags.writeable


def test_an_empty_file_of_the_library_is_read(path: Path) -> None:
    """A file without a single tensor gives an empty state."""
    safetensors.numpy.save_file({}, path)
    assert SafetensorsStore().load(path).state == {}


@pytest.mark.parametrize(
    "metadata",
    [
        *({word: "of somebody else"} for word in ("keepfast", "digests", "tree", "metadata")),
        {"tree": "oak", "metadata": "none"},
        {"keepfast": "", "format": "pt"},
    ],
    ids=lambda metadata: "+".join(metadata),
)
def test_a_word_of_ours_is_not_our_seal(path: Path, metadata: dict[str, str]) -> None:
    """A file of another tool whose metadata have a key that ours have too is read as that tool's."""
    safetensors.numpy.save_file({"a": np.arange(3.0)}, path, metadata=metadata)
    loaded = SafetensorsStore().load(path)
    assert (loaded.metadata, loaded.state["a"].tolist()) == ({}, [0.0, 1.0, 2.0])


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


WRONG: dict[str, Any] = {
    "a list": [],
    "a number": 3,
    "an entry that is none": {"x": 3},
    "a dtype that is no text": entry(dtype=3),  # type: ignore[arg-type]
    "a shape of other size": entry(shape=(3,)),
    "a negative shape": entry(shape=(-1, -2)),
    "a shape that is none": entry(shape=2),
    "a shape of text": entry(shape=("a",)),
    "offsets backwards": entry(offsets=(8, 0)),
    "offsets that leave a gap": entry(offsets=(4, 12)),
    "offsets beyond the file": entry(shape=(2**40,), offsets=(0, 2**42)),
    "one offset": entry(offsets=(0,)),
    "overlapping entries": {**entry(), "y": entry()["x"]},
    "unused bytes": {},
    "metadata that is none": {"__metadata__": 3, **entry()},
    "an unknown version of ours": {"__metadata__": {"keepfast": "9 00000000"}, **entry()},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_headers_that_do_not_fit_the_file_are_refused(path: Path, wrong: str) -> None:
    """A header that describes anything but the bytes behind it, without gap or overlap, is damage."""
    header = json.dumps(WRONG[wrong]).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(1, 9)))
    with pytest.raises(CorruptCheckpoint, match=path.name):
        SafetensorsStore().load(path)


def test_an_unknown_dtype_is_no_damage(path: Path) -> None:
    """A dtype that Keepfast does not know may be one of a later version of safetensors."""
    header = json.dumps(entry(dtype="F3")).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(1, 9)))
    with pytest.raises(Unreadable, match=f"{path.name}` cannot be read by Keepfast, .* `x` is of the dtype `F3`"):
        SafetensorsStore().load(path)


@pytest.mark.parametrize("shape", [(-1, -2), (3,), (-2,), (2, 2)], ids=str)
def test_a_shape_that_does_not_fit_is_told_with_its_entry(path: Path, shape: tuple[int, ...]) -> None:
    """Two sides below 0 have a product that fits, and are none all the same."""
    header = json.dumps(entry(shape=shape)).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(CorruptCheckpoint, match="entry `x` has another size than its shape tells"):
        SafetensorsStore().load(path)


def test_a_length_beyond_the_file_is_refused(path: Path) -> None:
    """A header said to be longer than the file is damage, found before memory is taken for it."""
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(CorruptCheckpoint, match="the header ends after the file"):
        SafetensorsStore().load(path)
