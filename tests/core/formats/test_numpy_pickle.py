"""Arrays of NumPy and JAX that were pickled into a `.pt` are read without the functions that the pickle names."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast

JAX = b"jax._src.array\n_reconstruct_array\n"


def as_torch_saves(tree: Any, path: Path, pickled: bytes | None = None) -> Path:
    """Write what `torch.save` makes of a tree without tensors."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(tree, protocol=2) if pickled is None else pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return path


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(3, 2, 1),
    np.arange(6, dtype=">i4").reshape(3, 1, 2),
    np.asfortranarray(np.arange(8, dtype=np.int8).reshape(2, 2, 2)),
    np.array([[[True]], [[False]]]),
    np.full((2, 1, 1), np.nan, np.float16),
    np.zeros((2, 1, 0)),
    np.ones((1, 1, 1), np.complex128),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_a_pickled_array_is_read(array: Any, tmp_path: Path) -> None:
    """Bit for bit, whatever its order of bytes and axes, as a memory and as a checkpoint."""
    path = as_torch_saves({"x": array}, tmp_path / "memory.pt")
    read = keepfast.read_memory(path)["x"]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")


def of_jax(array: Any) -> bytes:
    """Return the pickle of ``{"x": array of JAX}``, as jax pickles it."""
    function, arguments, state = array.__reduce__()

    class Array:
        def __reduce__(self) -> Any:
            return (_reconstruct_array, (function, arguments, state, {"weak_type": False}))

    named = pickle.dumps({"x": Array()}, protocol=2)
    return named.replace(f"{__name__}\n_reconstruct_array\n".encode(), JAX)


def _reconstruct_array(*_parts: Any) -> None:
    raise AssertionError("a pickle was obeyed")


def test_an_array_of_jax_is_read(tmp_path: Path) -> None:
    """Where JAX is not installed too."""
    array = np.arange(6, dtype=np.float32).reshape(3, 2, 1)
    path = as_torch_saves(None, tmp_path / "memory.pt", of_jax(array))
    np.testing.assert_array_equal(keepfast.read_memory(path)["x"], array)


class Named:
    """Pickles as a call of what it names."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def test_arrays_of_anything_else_are_refused(tmp_path: Path) -> None:
    """Objects, records and text in arrays, and code in the place of an array's parts."""
    function, arguments, state = np.zeros(2).__reduce__()
    wrong = [
        np.array([object, "x"], dtype=object),
        np.zeros(2, "i4,f4"),
        np.array(["text"]),
        Named(function, arguments, (1, (2**40,), np.dtype("f4"), False, b"abcd")),
        Named(function, arguments, (1, (-1,), np.dtype("f4"), False, b"")),
        Named(function, arguments, (1, (4,), "f4", False, b"\0" * 16)),
        Named(function, arguments, (1, (2,), np.dtype("f4"), False, [0, 0])),
        Named(function, arguments),
        Named(np.frombuffer, (b"abcd",)),
        Named(eval, ("1",)),
    ]
    for number, value in enumerate(wrong):
        with pytest.raises(keepfast.CorruptMemory):
            keepfast.read_memory(as_torch_saves({"x": value}, tmp_path / f"{number}.pt"))
    assert state is not None


def test_bytes_that_are_cut_are_damage(tmp_path: Path) -> None:
    """At any place."""
    whole = pickle.dumps({"x": ARRAYS[0]}, protocol=2)
    for stop in range(2, len(whole) - 1, 7):
        with pytest.raises(keepfast.CorruptMemory):
            keepfast.read_memory(as_torch_saves(None, tmp_path / "cut.pt", whole[:stop]))
    assert pickle.load(io.BytesIO(whole))["x"].shape == (3, 2, 1)
