"""On JAX a load takes no number for another one: kinds, ranges and dtypes of numbers are compared, and a cast fits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import keepfast  # noqa: E402

ARRAYS = {
    "int32": lambda: jnp.zeros((), jnp.int32),
    "uint8": lambda: jnp.zeros((), jnp.uint8),
    "bool": lambda: jnp.zeros((), bool),
    "float32": lambda: jnp.zeros(()),
    "bfloat16": lambda: jnp.zeros((), jnp.bfloat16),
    "complex64": lambda: jnp.zeros((), jnp.complex64),
    "weak int": lambda: jnp.asarray(0),
    "weak float": lambda: jnp.asarray(0.0),
    "NumPy's int32": lambda: np.zeros((), np.int32),
    "NumPy's float32 scalar": lambda: np.float32(0),
}

REFUSED = [
    ("int32", 2.7, "kind: the module has int32 (), the file has float 2.7", None),
    ("int32", True, "dtype: the module has int32 (), the file has bool True (`cast=True` converts)", 1),
    ("int32", 2.0, "dtype: the module has int32 (), the file has float 2.0 (`cast=True` converts)", 2),
    ("int32", 2**40, f"value: the module has int32 (), which cannot hold what the file has: int {2**40}", None),
    ("uint8", 300, "value: the module has uint8 (), which cannot hold what the file has: int 300", None),
    ("uint8", -1, "value: the module has uint8 (), which cannot hold what the file has: int -1", None),
    ("bool", 1, "dtype: the module has bool (), the file has int 1 (`cast=True` converts)", True),
    ("bool", 2, "kind: the module has bool (), the file has int 2", None),
    (
        "float32",
        0.1,
        "dtype: the module has float32 (), the file has float 0.1 (`cast=True` converts)",
        np.float32(0.1),
    ),
    ("float32", True, "dtype: the module has float32 (), the file has bool True (`cast=True` converts)", 1.0),
    ("float32", 1e300, "value: the module has float32 (), which cannot hold what the file has: float 1e+300", None),
    ("float32", 1j, "kind: the module has float32 (), the file has complex 1j", None),
    ("bfloat16", 257, "value: the module has bfloat16 (), which cannot hold what the file has: int 257", None),
    ("weak int", 0.5, "kind: the module has int32 (), the file has float 0.5", None),
    ("NumPy's int32", 2.7, "kind: the module has int32 (), the file has float 2.7", None),
    ("NumPy's float32 scalar", 2**24 + 1, "value: the module has float32 (), which cannot hold", None),
]


@pytest.mark.parametrize(("own", "found", "told", "cast"), REFUSED, ids=str)
def test_a_number_that_a_place_cannot_hold_is_told(own: str, found: Any, told: str, cast: Any, tmp_path: Path) -> None:
    """Nothing is loaded; a cast makes the same number of it, or is refused too."""
    path = keepfast.save({"n": found, "w": jnp.ones(1)}, tmp_path / "state.safetensors")
    module = {"n": ARRAYS[own](), "w": jnp.zeros(1)}
    with pytest.raises(keepfast.LoadMismatch) as caught:
        keepfast.load(module, path)
    assert f"  module.n: {told}" in str(caught.value)
    assert (np.asarray(module["n"]), module["w"].tolist()) == (0, [0])
    report = keepfast.load(module, path, strict=False)
    assert (report.mismatched, np.asarray(module["n"]), module["w"].tolist()) == (["module.n"], 0, [1])
    if cast is None:
        with pytest.raises(keepfast.LoadMismatch, match=r"module\.n: value: "):
            keepfast.load(module, path, cast=True)
    else:
        assert keepfast.load(module, path, cast=True).cast == ["module.n"]
        assert np.asarray(module["n"]) == cast
        assert module["n"].dtype == ARRAYS[own]().dtype


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ("int32", 7),
        ("uint8", 255),
        ("bool", True),
        ("float32", 7),
        ("float32", 0.5),
        ("float32", float("inf")),
        ("bfloat16", 256),
        ("complex64", 0.5),
        ("weak int", 7),
        ("weak float", 0.5),
        ("NumPy's float32 scalar", 0.5),
    ],
    ids=str,
)
def test_a_number_that_a_place_can_hold_is_loaded(own: str, found: Any, tmp_path: Path) -> None:
    """It is the very same number there, of the dtype that the place has."""
    path = keepfast.save({"n": found, "w": jnp.ones(1)}, tmp_path / "state.safetensors")
    module = {"n": ARRAYS[own](), "w": jnp.zeros(1)}
    assert keepfast.load(module, path)
    assert np.asarray(module["n"]) == found
    assert module["n"].dtype == ARRAYS[own]().dtype


def test_a_cast_of_an_array_converts_what_fits(tmp_path: Path) -> None:
    """No fraction is cut off, and no number is wrapped around."""
    path = keepfast.save({"w": jnp.array([2.7, 1.0]), "n": jnp.array([300])}, tmp_path / "state.safetensors")
    module = {"w": jnp.zeros(2, jnp.int32), "n": jnp.zeros(1, jnp.uint8)}
    with pytest.raises(keepfast.LoadMismatch, match=r"(?s)module\.w: value: .*module\.n: value: "):
        keepfast.load(module, path, cast=True)
    module = {"w": jnp.zeros(2, jnp.bfloat16), "n": jnp.zeros(1)}
    assert keepfast.load(module, path, cast=True).cast == ["module.w", "module.n"]
    assert (module["w"].dtype, module["n"].tolist()) == (jnp.bfloat16, [300])


class Scaler:
    """Restores itself, from whatever it is given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


@pytest.mark.parametrize(
    ("own", "found"),
    [
        (jnp.zeros((), jnp.int32), 2.7),
        (jnp.zeros(2, jnp.int32), jnp.array([2.7, 1.0])),
        (jnp.zeros((), jnp.uint8), 300),
    ],
    ids=["a fraction", "an array of another dtype", "a large number"],
)
def test_an_object_that_restores_itself_is_given_no_other_number(own: Any, found: Any, tmp_path: Path) -> None:
    """Where its own state and the file have an array, they are of one dtype, or it is told."""
    path = keepfast.save({"scaler": Scaler(found), "w": jnp.ones(1)}, tmp_path / "state.safetensors")
    scaler = Scaler(own)
    with pytest.raises(keepfast.LoadMismatch, match=r"module\.scaler\.value: (kind|dtype|value): "):
        keepfast.load({"scaler": scaler, "w": jnp.zeros(1)}, path)
    assert scaler.value is own


def test_a_variable_may_change_its_kind_and_a_tree_may_not(tmp_path: Path) -> None:
    """An epsilon that began as 1 takes 0.5; an entry of a tree that is a whole number stays one."""
    owner = SimpleNamespace(epsilon=1)
    path = keepfast.save(keepfast.attribute(SimpleNamespace(epsilon=0.5), "epsilon"), tmp_path / "epsilon.safetensors")
    assert keepfast.load(keepfast.attribute(owner, "epsilon"), path)
    assert owner.epsilon == 0.5
    path = keepfast.save({"n": 0.5, "w": jnp.ones(1)}, tmp_path / "state.safetensors")
    with pytest.raises(keepfast.LoadMismatch, match=r"module\.n: kind: the module has int 1, the file has float 0\.5"):
        keepfast.load({"n": 1, "w": jnp.zeros(1)}, path)
    with pytest.raises(keepfast.LoadMismatch, match=r"module\.n: dtype: the module has bool True, the file has"):
        keepfast.load({"n": True, "w": jnp.zeros(1)}, keepfast.save({"n": 1, "w": jnp.ones(1)}, path))


PYTHON = [
    *[
        (0.5, 2, 2.0),
        (0.5, True, 1.0),
        (1j, 2, 2 + 0j),
        (1j, 0.5, 0.5 + 0j),
        (7, 3.0, 3),
        (7, True, 1),
        (False, 1, True),
    ],
    *[(0.5, np.int64(2), 2.0), (7, np.float32(3), 3), (0.5, jnp.zeros((), jnp.int32), 0.0)],
]


@pytest.mark.parametrize(("own", "found", "cast"), PYTHON, ids=str)
def test_a_cast_makes_numbers_of_python_of_the_kind_that_is_there(
    own: Any, found: Any, cast: Any, tmp_path: Path
) -> None:
    """In a tree, in a variable and in what restores itself; where that would be another number, nothing is cast."""
    path = keepfast.save({"n": found, "inner": Scaler(found), "w": jnp.ones(1)}, tmp_path / "state.safetensors")
    scaler = Scaler(own)
    module = {"n": own, "inner": scaler, "w": jnp.zeros(1)}
    report = keepfast.load(module, path, cast=True)
    assert [(type(each), each) for each in (module["n"], scaler.value)] == [(type(cast), cast)] * 2
    assert report.cast == ["module.n", "module.inner.value"]
