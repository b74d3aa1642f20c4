"""Trees as JSON, exact to the bit and free of code."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keepfast import codec
from keepfast.errors import InvalidValue

ARRAYS = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u1", "u8", "?", "c8", ">f4"]),
    hnp.array_shapes(min_dims=0, min_side=0),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    ARRAYS,
    st.sets(st.integers() | st.integers()),
)
KEYS = st.text(max_size=3) | st.integers() | st.booleans() | st.none() | st.tuples(st.integers(), st.text(max_size=2))
TREES = st.recursive(
    LEAVES,
    lambda below: (
        st.lists(below, max_size=3)
        | st.lists(below, max_size=3).map(tuple)
        | st.dictionaries(KEYS, below, max_size=3)
        | st.dictionaries(KEYS, below, max_size=3).map(OrderedDict)
        | st.dictionaries(st.text(max_size=2), st.integers(), max_size=3).map(Counter)
    ),
    max_leaves=10,
)


def identical(one: Any, other: Any) -> bool:
    """Say whether two trees are alike in types, order and bits."""
    if isinstance(one, np.ndarray):
        return bool(
            isinstance(other, np.ndarray)
            and (one.dtype, one.shape) == (other.dtype, other.shape)
            and one.tobytes() == other.tobytes()
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    return repr(one) == repr(other) if isinstance(one, float | complex) else bool(one == other)


@given(tree=TREES)
def test_every_tree_comes_back_as_it_was(tree: Any) -> None:
    """Types, keys of any kind, their order, negative zeros, infinities and every bit of every array."""
    assert identical(codec.loads(codec.dumps(tree)), tree)


@given(tree=TREES)
def test_the_text_is_plain_json(tree: Any) -> None:
    """Any JSON parser reads it, also a strict one that knows no NaN."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    text = codec.dumps(tree)
    assert json.loads(text, parse_constant=refuse) == json.loads(text)


def test_numbers_that_json_lacks_are_none_of_its_text() -> None:
    """Any reader of JSON takes it: infinities and NaN, which Python alone would read, stand as text."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not strict JSON")

    tree = [math.inf, -math.inf, math.nan, 1e308]
    text = codec.dumps(tree)
    json.loads(text, parse_constant=refuse)
    assert repr(codec.loads(text)) == repr(tree)


def test_numpy_scalars_become_arrays_of_no_dimension() -> None:
    """Their dtype is kept."""
    found = codec.loads(codec.dumps({"a": np.float32(0.1)}))["a"]
    assert (found.dtype, found.shape, found) == (np.float32, (), np.float32(0.1))


def test_the_machines_order_changes_no_value() -> None:
    """Bytes of the other order are turned, and an array of this one is returned itself."""
    foreign = np.arange(5, dtype=np.dtype(np.float32).newbyteorder())
    turned = codec.native(foreign, "a")
    assert turned.dtype.isnative
    assert turned.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert codec.native(turned, "a") is turned


def test_arrays_that_are_scattered_in_memory_come_back_in_order() -> None:
    """Transposed and strided views hold the same values after."""
    array = np.arange(12).reshape(3, 4)
    for view in (array.T, array[::2, ::3], np.asfortranarray(array)):
        assert codec.loads(codec.dumps(view)).tolist() == view.tolist()


def test_arrays_read_back_can_be_written_to() -> None:
    """They own their memory."""
    found = codec.loads(codec.dumps(np.zeros(2)))
    found[0] = 1.0
    assert found.tolist() == [1.0, 0.0]


@pytest.mark.needs("ml_dtypes")
def test_bfloat16_keeps_its_dtype() -> None:
    """The dtypes of machine learning travel by name."""
    import ml_dtypes

    array = np.array([1.5, math.inf], ml_dtypes.bfloat16)
    assert identical(codec.loads(codec.dumps(array)), array)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": [np.array([object()])]}, r"`a\.0` is an array of dtype object, which cannot be stored"),
        ({"a": np.zeros(2, [("x", "f4"), ("y", "i8")])}, r"`a` is an array of dtype .*, which cannot be stored"),
        ({"a": [object()]}, r"`a\.0` is a builtins\.object, which cannot be stored; allowed: numbers"),
        (print, r"`\(root\)` is a builtins\.builtin_function_or_method"),
        ({"a": {"b": lambda: None}}, r"`a\.b` is a builtins\.function"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_path(tree: Any, message: str) -> None:
    """Nothing is pickled behind the user's back."""
    with pytest.raises(InvalidValue, match=message):
        codec.dumps(tree)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"dict": [], "tuple": []}',
        "{}",
        '{"function": "os.system"}',
        '{"bytes": "a"}',
        '{"float": "x"}',
        '{"tuple": 3}',
        '{"dict": [[1]]}',
        '{"dict": [[{"dict": []}, 1]]}',
        '{"complex": []}',
        '{"array": ["<f4", [2], "AAAA"]}',
        '{"array": ["no such dtype", [0], ""]}',
        '{"array": 5}',
        '{"set": [[1]]}',
        '{"bytes": 5}',
    ],
)
def test_what_encode_did_not_make_is_a_value_error(text: str) -> None:
    """Readers need to expect one kind of error from a damaged text."""
    with pytest.raises(ValueError, match=r".+"):
        codec.loads(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, True, None, "b"]}, '{"a": [1, 2.5, true, null, "b"]}'),
        ({1: {None: (1, 2)}, ("a", "b"): {}}, """{"1": {"None": [1, 2]}, "('a', 'b')": {}}"""),
        ([math.nan, math.inf, -math.inf], '["NaN", "Infinity", "-Infinity"]'),
        ([np.float32(0.5), np.array(7), np.bool_(True), np.float64("nan")], '[0.5, 7, true, "NaN"]'),
        ([{1}, Path("a/b"), np.arange(2), object], """["{1}", "a/b", "[0 1]", "<class 'object'>"]"""),
        (MappingProxyType({"a": OrderedDict(b=1)}), '{"a": {"b": 1}}'),
    ],
)
def test_anything_can_be_told_in_strict_json(value: Any, text: str) -> None:
    """For people and other tools: what JSON has stays, at every depth, and all else becomes text."""
    assert json.dumps(codec.plain(value), allow_nan=False) == text


def test_a_tensor_that_holds_no_number_is_told_as_text() -> None:
    """One that only has a shape, or is being traced, keeps nothing from being told."""

    class Shape:
        ndim = 0

        def item(self) -> float:
            raise NotImplementedError("no data")

        def __str__(self) -> str:
            return "a shape"

    assert codec.plain({"x": Shape()}) == {"x": "a shape"}


@given(TREES)
def test_whatever_a_checkpoint_can_hold_can_be_told(tree: Any) -> None:
    """Strict JSON of it, and the same once more, which changes nothing."""
    told = codec.plain(tree)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert codec.plain(told) == told
