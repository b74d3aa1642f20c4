"""No number becomes another one: what fits into which place, and what a cast makes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast.plain.numbers import converted, difference

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float16", "float32", "float64"]
DTYPES = ["bool", *INTEGERS, *FLOATS, "complex64", "complex128"]


def place(dtype: str) -> Any:
    return np.zeros((), dtype)


@pytest.mark.parametrize(
    ("dtype", "found", "told"),
    [
        ("int32", 7, None),
        ("int32", 2.7, "kind"),
        ("int32", 2.0, "dtype"),
        ("int32", True, "dtype"),
        ("int32", 1j, "kind"),
        ("int32", math.nan, "kind"),
        ("int32", 2**31, "value"),
        ("uint8", 255, None),
        ("uint8", 300, "value"),
        ("uint8", -1, "value"),
        ("uint64", 2**64 - 1, None),
        ("int64", 2**64 - 1, "value"),
        ("bool", True, None),
        ("bool", 1, "dtype"),
        ("bool", 2, "kind"),
        ("float32", 7, None),
        ("float32", 0.5, None),
        ("float32", 0.1, "dtype"),
        ("float32", 2**24 + 1, "value"),
        ("float32", True, "dtype"),
        ("float32", 1e300, "value"),
        ("float32", math.inf, None),
        ("float32", math.nan, None),
        ("float32", 1j, "kind"),
        ("float16", 70000, "value"),
        ("float16", -(2**63) - 1, "value"),
        ("float32", 2**200, "value"),
        ("float64", 2**100, None),
        ("float64", 2**100 + 1, "value"),
        ("float64", 2**2000, "value"),
        ("complex64", 0.5, None),
        ("complex64", 3, None),
        ("complex64", 0.1j, "dtype"),
    ],
)
def test_a_number_goes_into_an_array_that_can_hold_exactly_it(dtype: str, found: Any, told: str | None) -> None:
    """Otherwise it is told: as another dtype where a cast would do, as another kind or value where none would."""
    assert difference(place(dtype), found) == told


@pytest.mark.needs("ml_dtypes")
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4"])
def test_the_dtypes_of_machine_learning_hold_less(dtype: str) -> None:
    """They take what they can hold, and nothing rounded or cut."""
    import ml_dtypes

    own = np.zeros((), getattr(ml_dtypes, dtype))
    assert difference(own, 7) is None
    assert difference(own, 1025) == "value"
    assert (converted(0.3, own) is None) == (dtype == "int4")


@pytest.mark.parametrize(
    ("own", "found", "strictly", "freely"),
    [
        (1, 4, None, None),
        (1, 0.5, "kind", None),
        (1, 2.0, "dtype", None),
        (1, np.array(4), None, None),
        (1, np.array(4.5), "kind", None),
        (1, True, "dtype", "dtype"),
        (True, 1, "dtype", "dtype"),
        (True, False, None, None),
        (0.5, 3, None, None),
        (0.5, True, "dtype", "dtype"),
        (0.5, np.float32(3), None, None),
        (0.5, 1j, "kind", None),
        (1j, 0.5, None, None),
    ],
)
def test_a_number_of_python_gives_way_to_its_own_kind(
    own: Any, found: Any, strictly: str | None, freely: str | None
) -> None:
    """A variable's value may be of another kind too, but no number is a bool, and no bool a number."""
    assert difference(own, found) == strictly
    assert difference(own, found, free=True) == freely


def test_arrays_without_dimensions_are_compared_by_dtype() -> None:
    """As all arrays are."""
    assert difference(place("int32"), np.array(3, np.int32)) is None
    assert difference(place("int32"), np.array(3, np.int64)) == "dtype"


numbers = (
    st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.integers(-300, 300)
    | st.floats()
    | st.floats(width=16)
    | st.complex_numbers()
)


def exactly(value: Any) -> Any:
    return complex(value) if isinstance(value, complex) else value


@given(numbers, st.sampled_from(DTYPES))
def test_what_fits_is_the_very_same_number(found: Any, dtype: str) -> None:
    """Whatever number and dtype: what goes in as it is comes out as it was."""
    own = place(dtype)
    if difference(own, found) is None:
        made = np.asarray(found).astype(dtype).item()
        assert made == found or (made != made and found != found)
        assert isinstance(made, bool) == isinstance(found, bool)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300), min_size=1), st.sampled_from(DTYPES))
def test_a_cast_keeps_whole_numbers_or_is_none(values: list[int], dtype: str) -> None:
    """No wrapping around, no rounding beyond what a float can hold."""
    found = np.array(values, np.int64)
    made = converted(found, np.zeros(found.shape, dtype))
    if made is not None:
        assert made.dtype == dtype
        assert [int(value.real) for value in made.tolist()] == values


@given(st.lists(st.floats(width=64), min_size=1), st.sampled_from(DTYPES))
def test_a_cast_rounds_floats_to_floats_alone(values: list[float], dtype: str) -> None:
    """A float stays finite, infinite or a NaN; into whole numbers go whole numbers."""
    found = np.array(values)
    made = converted(found, np.zeros(found.shape, dtype))
    if made is None:
        return
    for one, other in zip(made.tolist(), values, strict=True):
        if dtype.startswith(("float", "complex")):
            assert (math.isfinite(one.real), math.isnan(one.real)) == (math.isfinite(other), math.isnan(other))
        else:
            assert one == other


@pytest.mark.parametrize(
    ("found", "dtype", "expected"),
    [
        (np.array([2.7]), "int32", None),
        (np.array([2.0, 3.0]), "int32", [2, 3]),
        (np.array([300]), "uint8", None),
        (np.array([0, 1]), "bool", [False, True]),
        (np.array([0, 2]), "bool", None),
        (np.array([True]), "float32", [1.0]),
        (np.array([1 + 0j]), "float32", [1.0]),
        (np.array([1 + 1j]), "float32", None),
        (np.array([1e39]), "float32", None),
        (np.array([0.1]), "float32", [float(np.float32(0.1))]),
        (np.array(["a"]), "float32", None),
    ],
)
def test_a_cast_converts_what_fits(found: Any, dtype: str, expected: Any) -> None:
    """All of an array, or nothing of it."""
    made = converted(found, np.zeros(found.shape, dtype))
    assert (None if made is None else made.tolist()) == expected


@pytest.mark.parametrize(
    ("found", "own", "expected"),
    [(2.0, 1, 2), (2.7, 1, None), (True, 1, 1), (1, True, True), (2, True, None), (math.inf, 1, None), (1j, 0.5, None)],
)
def test_a_cast_reaches_numbers_of_python(found: Any, own: Any, expected: Any) -> None:
    """They become of the kind that is in their place, where they are the same number then."""
    made = converted(found, own)
    assert (type(made), made) == (type(expected), expected)
