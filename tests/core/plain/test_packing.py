"""States of many small values are one entry of a checkpoint, and come back as they were."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast.errors import InvalidValue, UnsupportedModule
from keepfast.plain.packing import SMALL, is_packed, pack, unpack
from keepfast.tree import leaves

_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(max_size=8),
    st.sampled_from([np.arange(6.0).reshape(2, 3), np.zeros((0, 4), np.int8), np.array(True), np.array([1, 2], ">i4")]),
    st.sampled_from([np.float32(0.1), np.int64(-5), np.bool_(True)]),
)
_KEYS = st.one_of(st.text(), st.integers(), st.none(), st.tuples(st.integers(), st.text()))
_STATES = st.dictionaries(
    st.text(),
    st.recursive(
        _LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(_KEYS, inner, max_size=4),
            st.sets(st.integers(), max_size=3),
        ),
        max_leaves=20,
    ),
    max_size=5,
)


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return [*one] == [*other] and all(_same(each, other[key]) for key, each in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


@given(_STATES)
def test_every_state_comes_back_as_it_was(state: dict[str, Any]) -> None:
    """With its kinds of numbers and containers, and with the dtypes and shapes of its arrays."""
    assert _same(unpack(pack(state)), state)


def test_numbers_that_json_lacks_come_back() -> None:
    """A NaN, both infinities, the other zero, and integers of any length."""
    found = unpack(pack({"x": [math.nan, math.inf, -math.inf, -0.0, 2**128]}))["x"]
    assert (math.isnan(found[0]), found[1:3], math.copysign(1, found[3]), found[4]) == (
        True,
        [math.inf, -math.inf],
        -1.0,
        2**128,
    )


def test_a_state_is_one_entry_beside_its_large_arrays() -> None:
    """Those are named by their paths, with what another one would not have, and shared with whoever gave them."""
    large = np.zeros(SMALL + 1, np.uint8)
    packed = pack({"a": {"b": large, "c": list(range(1000))}, "d": np.ones(3)})
    paths = [path.rpartition(".")[0] for path, _ in leaves(packed)]
    assert (len(paths), paths[1]) == (2, "arrays.a.b.|u1(16385,)"[: len(paths[1])])
    assert next(iter(packed["arrays"].values())) is large
    assert is_packed(packed)
    np.testing.assert_array_equal(unpack(packed)["a"]["b"], large)


def test_arrays_that_come_back_are_their_own() -> None:
    """They can be written to, and what they were packed from stays as it is."""
    state = {"small": np.zeros(2), "large": np.zeros(SMALL)}
    found = unpack(pack(state))
    for name, array in found.items():
        array += 1
        assert not state[name].any()


@pytest.mark.parametrize("value", [object(), [np.str_("x")], {"x": complex(1, 2)}, frozenset({1})])
def test_what_is_nothing_plain_is_named_by_its_path(value: Any) -> None:
    """So that whoever registered it finds it."""
    with pytest.raises(UnsupportedModule, match="`a"):
        pack({"a": value})


def _made(text: Any, rest: bytes = b"", arrays: Any = None) -> dict[str, Any]:
    content = json.dumps(text).encode()
    whole = len(content).to_bytes(8, "little") + content + rest
    return {"packed": {"x": np.frombuffer(whole, np.uint8)}, "arrays": arrays or {}}


@pytest.mark.parametrize(
    "saved",
    [
        {"packed": {}, "arrays": {}},
        {"packed": {"3": np.zeros(3, np.uint8)}, "arrays": {}},
        {"packed": {"x": "no array"}, "arrays": {}},
        _made({"": ["unknown", []]}),
        _made({"": ["large", "absent"]}),
        _made({"": ["array", "<f8", [2]]}, b"\0" * 15),
        _made({"": ["array", "<f8", [-1]]}),
        _made({"": ["array", "O", [1]]}, b"\0" * 8),
        _made({"": ["array", "|u1", [0, 2**60]]}),
        _made({"": []}),
        _made({"": 5}),
        _made({"": ["dict", [[1]], [2]]}),
        _made({"": ["bytes", 5]}),
        _made({"": ["array", "(,)f4", [1]]}, b"\0" * 8),
        _made({"": ["array", "f4,", [1]]}, b"\0" * 8),
        _made({"": ["array", "(2,)f4", [1]]}, b"\0" * 8),
        _made({"": ["array", "m8[0s]", [1]]}, b"\0" * 8),
        _made({"": ["array", "<f\u0664", [1]]}, b"\0" * 8),
        _made({"": ["array", "<f9", [1]]}, b"\0" * 16),
        _made({"": ["array", 5, [1]]}, b"\0" * 8),
        _made({"": [[], 5]}),
        {"packed": {"9": np.frombuffer((2**63).to_bytes(8, "little") + b"1", np.uint8)}, "arrays": {}},
        _made([{"": ["large", "a"]}] * 2, arrays={"a": np.zeros(3)}),
    ],
)
def test_what_was_never_packed_is_refused(saved: Any) -> None:
    """Whatever stands in a file that somebody made."""
    with pytest.raises(InvalidValue, match="packed"):
        unpack(saved)


def test_the_same_bytes_are_no_array_twice() -> None:
    """A small file could tell of any number of large arrays otherwise."""
    with pytest.raises(InvalidValue, match="packed"):
        unpack(_made([{"": ["array", "|u1", [8]]}] * 2, b"\0" * 8))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["dict", "set"])
def test_keys_of_one_hash_are_refused(kind: str) -> None:
    """Each would be compared with all others, and a file can tell of any number: those of its modulus hash to 0."""
    keys = [each * (2**61 - 1) for each in range(40_000)]
    with pytest.raises(InvalidValue, match="the same hash"):
        unpack(_made({"": [kind, keys, keys] if kind == "dict" else [kind, keys]}))


@pytest.mark.parametrize("dtype", [*"?bBhHiIlLqQefdgFDG", ">i4", ">f8", ">c16"])
def test_arrays_of_every_kind_of_number_are_packed(dtype: str) -> None:
    """Whatever NumPy calls it."""
    array = np.ones(3, dtype)
    packed = pack({"a": array})
    assert not packed["arrays"]
    assert _same(unpack(packed)["a"], array)
