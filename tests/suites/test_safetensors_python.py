"""The cases of safetensors' own Python tests, written anew: its package on the index needs Rust to be unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.serialization
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.flax
import safetensors.numpy
import safetensors.torch
import torch

import keepfast
from keepfast.formats.checkpoints.safetensors import SafetensorsStore
from keepfast.interfaces.checkpoint_store import Checkpoint
from tests.core.formats.test_safetensors_reference import HEADERS, content_of, is_taken

DTYPES = [
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
    *("uint16", "uint32", "uint64", "complex64", "float8_e4m3fn", "float8_e5m2"),
    *("float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"),
]
SHAPES = [(), (0,), (1,), (2, 2), (3, 0, 2), (2, 3, 4, 5)]


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.reshape(-1).contiguous().view(torch.uint8).numpy()) if tensor.numel() else b""


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tensors_of_torch_go_both_ways(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """`save_file` and `load_file`, for each dtype and shape."""
    numbers = torch.randint(0, 2, shape).to(torch.float32)
    made = numbers.to(getattr(torch, name))
    safetensors.torch.save_file({"x": made}, tmp_path / "theirs.safetensors")
    found = SafetensorsStore().load(tmp_path / "theirs.safetensors").state["x"]
    assert (str(found.dtype), found.shape, found.tobytes()) == (name, shape, bits(made))
    SafetensorsStore().save(Checkpoint({"x": found}), tmp_path / "ours.safetensors")
    loaded = safetensors.torch.load_file(tmp_path / "ours.safetensors")["x"]
    assert (loaded.dtype, tuple(loaded.shape), bits(loaded)) == (made.dtype, shape, bits(made))


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_arrays_of_numpy_and_jax_go_both_ways(name: str, tmp_path: Path) -> None:
    """As `safetensors.numpy` and `safetensors.flax` have them."""
    made = {"a": np.ones((2, 3), name), "b": np.zeros((), name)}
    in_jax = {key: jnp.asarray(each) for key, each in made.items()}
    for library, arrays in ((safetensors.numpy, made), (safetensors.flax, in_jax)):
        library.save_file(arrays, tmp_path / "theirs.safetensors")
        found = SafetensorsStore().load(tmp_path / "theirs.safetensors").state
        SafetensorsStore().save(Checkpoint(found), tmp_path / "ours.safetensors")
        loaded = library.load_file(tmp_path / "ours.safetensors")
        assert {key: np.asarray(each).tolist() for key, each in loaded.items()} == {
            key: each.tolist() for key, each in made.items()
        }


@pytest.mark.parametrize("metadata", [None, {}, {"framework": "pt"}, {"a": "", "Größe": 'ü\n"\\'}])
def test_metadata_of_others_do_no_harm(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    """Whatever texts they are."""
    safetensors.torch.save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors", metadata)
    found = SafetensorsStore().load(tmp_path / "x.safetensors")
    assert (found.state["x"].tolist(), found.metadata) == ([1, 1], {})


def tied() -> Any:
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    net[1].weight = net[0].weight
    return net


@pytest.mark.parametrize("model", [tied, lambda: torch.nn.Linear(2, 3)], ids=["tied", "plain"])
def test_a_model_is_saved_and_loaded(model: Any, tmp_path: Path) -> None:
    """`save_model`, and `load_file` with a strict `load_state_dict`, also with a weight that two layers share."""
    one, two, three = model(), model(), model()
    safetensors.torch.save_model(one, str(tmp_path / "theirs.safetensors"))
    assert set(SafetensorsStore().load(tmp_path / "theirs.safetensors").state) <= set(one.state_dict())
    keepfast.save(one, tmp_path / "ours.safetensors")
    two.load_state_dict(safetensors.torch.load_file(tmp_path / "ours.safetensors"))
    assert {key: bits(each) for key, each in one.state_dict().items()} == {
        key: bits(each) for key, each in two.state_dict().items()
    }
    if model is tied:
        pytest.skip("`load_model` wants a shared weight under one name, `load_file`, which we serve, under both")
    assert safetensors.torch.load_model(three, str(tmp_path / "ours.safetensors")) == (set(), [])


def test_slices_and_offsets_of_ours_are_right(tmp_path: Path) -> None:
    """`safe_open` gives parts of our arrays, and their keys in any order."""
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    SafetensorsStore().save(Checkpoint({"net": {"x": values, "y": np.ones(3, np.int8)}}), tmp_path / "x.safetensors")
    with safetensors.safe_open(tmp_path / "x.safetensors", "np") as file:
        assert sorted(file.keys()) == ["net.x", "net.y"]
        part = file.get_slice("net.x")
        assert (part.get_shape(), part[1:3, 2:].tolist()) == ([4, 6], values[1:3, 2:].tolist())


def test_flax_parameters_go_both_ways(tmp_path: Path) -> None:
    """A nested state by its paths."""
    state = {"params": {"Dense_0": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}}
    SafetensorsStore().save(Checkpoint(flax.serialization.to_state_dict(state)), tmp_path / "x.safetensors")
    loaded = safetensors.flax.load_file(tmp_path / "x.safetensors")
    assert sorted(loaded) == ["params.Dense_0.bias", "params.Dense_0.kernel"]


@pytest.mark.parametrize("name", HEADERS)
def test_a_file_is_refused_or_taken_as_the_library_does(name: str, tmp_path: Path) -> None:
    """Each header of our own tests: what the library refuses, we refuse."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content_of(HEADERS[name], bytes(8)))
    if is_taken(path):
        pytest.skip("the library takes it; whether we give the same is asked in tests/core/formats")
    with pytest.raises(keepfast.KeepfastError):
        SafetensorsStore().load(path)
