"""Trees: plain containers whose leaves have paths."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfast import tree
from keepfast.errors import InvalidValue

KEYS = st.text(alphabet="abc", min_size=1, max_size=3) | st.integers(0, 5)
TREES = st.recursive(
    st.integers() | st.none() | st.text(max_size=3),
    lambda below: (
        st.lists(below, max_size=3)
        | st.lists(below, max_size=3).map(tuple)
        | st.dictionaries(KEYS, below, max_size=3)
        | st.dictionaries(KEYS, below, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


class Pair(NamedTuple):
    first: Any
    second: Any


def test_paths_are_keys_joined_by_dots() -> None:
    """Entries are named as PyTorch names its parameters; a tree that is one leaf has the empty path."""
    nested = {"net": {"0": {"weight": 1}}, "layers": [2, (3,)], 5: None}
    assert tree.flatten(nested) == {"net.0.weight": 1, "layers.0": 2, "layers.1.0": 3, "5": None}
    assert tree.flatten(7) == {"": 7}
    assert tree.flatten({}) == {}


def test_two_leaves_of_one_path_are_refused() -> None:
    """An ambiguous name is an error, not the loss of an entry."""
    with pytest.raises(InvalidValue, match=r"two entries of the tree have the path `a\.b`"):
        tree.flatten({"a.b": 1, "a": {"b": 2}})


@given(nested=TREES)
def test_mapping_with_the_identity_gives_an_equal_tree_of_the_same_types(nested: Any) -> None:
    """Containers keep their types and the order of their keys, and none is shared with the original."""
    mapped = tree.map_leaves(lambda _path, leaf: leaf, nested)
    assert repr(mapped) == repr(nested)
    if isinstance(nested, dict | list) and nested:
        assert mapped is not nested


@given(nested=TREES)
def test_mapping_visits_every_leaf_once_in_order(nested: Any) -> None:
    """The paths it gives are those of `leaves`."""
    seen: list[tuple[str, Any]] = []
    tree.map_leaves(lambda path, leaf: seen.append((path, leaf)), nested)
    assert seen == list(tree.leaves(nested))


def test_special_containers_keep_their_type() -> None:
    """Counter, OrderedDict and named tuples are rebuilt as what they were."""
    nested = [Counter(a=2), OrderedDict(b=1, a=2), Pair(1, [2])]
    mapped = tree.map_leaves(lambda _path, leaf: leaf + 1, nested)
    assert mapped == [Counter(a=3), OrderedDict(b=2, a=3), Pair(2, [3])]
    assert [type(container) for container in mapped] == [Counter, OrderedDict, Pair]
    assert list(mapped[1]) == ["b", "a"]


def test_bytes_are_those_of_the_arrays() -> None:
    """Numbers and strings beside them do not count."""
    assert tree.nbytes({"a": np.zeros(3, np.float32), "b": [np.zeros((2, 2), np.int8), 5, "x"]}) == 16
