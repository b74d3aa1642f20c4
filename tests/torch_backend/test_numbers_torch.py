"""On PyTorch a load takes no number for another one: kinds, ranges and dtypes of numbers are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keepfast  # noqa: E402

PLACES = {
    "int32": lambda: torch.zeros((), dtype=torch.int32),
    "uint8": lambda: torch.zeros((), dtype=torch.uint8),
    "bool": lambda: torch.zeros((), dtype=torch.bool),
    "float32": lambda: torch.zeros(()),
    "bfloat16": lambda: torch.zeros((), dtype=torch.bfloat16),
    "NumPy's int32": lambda: np.zeros((), np.int32),
    "an int": lambda: 0,
    "a float": lambda: 0.0,
    "a bool": lambda: False,
}


@pytest.mark.parametrize(
    ("own", "found", "status", "cast"),
    [
        ("int32", 2.7, "kind", None),
        ("int32", 2.0, "dtype", 2),
        ("int32", True, "dtype", 1),
        ("int32", 2**40, "value", None),
        ("uint8", 300, "value", None),
        ("uint8", -1, "value", None),
        ("bool", 1, "dtype", True),
        ("float32", 0.1, "dtype", float(np.float32(0.1))),
        ("float32", 1e300, "value", None),
        ("float32", 2**24 + 1, "value", None),
        ("bfloat16", 257, "value", None),
        ("NumPy's int32", 2.7, "kind", None),
        ("an int", 2.7, "kind", None),
        ("an int", True, "dtype", 1),
        ("a float", True, "dtype", 1.0),
        ("a bool", 1, "dtype", True),
    ],
    ids=str,
)
def test_a_number_that_a_place_cannot_hold_is_told(
    own: str, found: Any, status: str, cast: Any, tmp_path: Path
) -> None:
    """Nothing is loaded; a cast makes the same number of it, or is refused too."""
    path = keepfast.save({"n": found, "w": torch.ones(1)}, tmp_path / "state.pt")
    module = {"n": PLACES[own](), "w": torch.zeros(1)}
    with pytest.raises(keepfast.LoadMismatch, match=rf"module\.n: {status}: "):
        keepfast.load(module, path)
    assert (float(module["n"]), module["w"].tolist()) == (0.0, [0.0])
    if cast is None:
        with pytest.raises(keepfast.LoadMismatch, match=r"module\.n: value: "):
            keepfast.load(module, path, cast=True)
    else:
        assert keepfast.load(module, path, cast=True).cast == ["module.n"]
        assert module["n"] == cast
        assert type(module["n"]) is type(PLACES[own]())


@pytest.mark.parametrize(
    ("own", "found"),
    [("int32", 7), ("uint8", 255), ("bool", True), ("float32", 7), ("float32", 0.5), ("bfloat16", 256), ("a float", 3)],
)
def test_a_number_that_a_place_can_hold_is_loaded(own: str, found: Any, tmp_path: Path) -> None:
    """It is the very same number there."""
    path = keepfast.save({"n": found, "w": torch.ones(1)}, tmp_path / "state.pt")
    module = {"n": PLACES[own](), "w": torch.zeros(1)}
    assert keepfast.load(module, path)
    assert module["n"] == found


def test_a_cast_of_a_parameter_converts_what_fits(tmp_path: Path) -> None:
    """A half precision network takes a double precision file; a count takes no fraction."""
    module = torch.nn.BatchNorm1d(2).double()
    path = keepfast.save(module, tmp_path / "double.pt")
    other = torch.nn.BatchNorm1d(2).half()
    assert "module.weight" in keepfast.load(other, path, cast=True).cast
    assert other.weight.dtype == torch.float16
    state = {**module.state_dict(), "num_batches_tracked": torch.tensor(2.5)}
    torch.save(state, tmp_path / "fraction.pt")
    with pytest.raises(keepfast.LoadMismatch, match=r"module\.num_batches_tracked: value: .*int64 \(\), which cannot"):
        keepfast.load(other, tmp_path / "fraction.pt", cast=True)
