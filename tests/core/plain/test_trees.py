"""Trees of arrays and numbers need no framework: every format saves them, and loads into them what it saved."""

from __future__ import annotations

from collections import Counter, OrderedDict, UserDict, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import keepfast

_MSGPACK = pytest.mark.needs("msgpack")
FORMATS = ["safetensors", "pt", pytest.param("msgpack", marks=_MSGPACK), pytest.param("pickle", marks=_MSGPACK)]


class _Moments(NamedTuple):
    mean: Any
    var: Any


class _Settings(dict[str, Any]):
    """A dict of another name."""


TREES: list[Callable[[Any], Any]] = [
    lambda number: {"mean": np.full(3, number)},
    lambda number: [np.full(2, number)],
    lambda number: (np.full(2, number), [number, np.full((), number)]),
    lambda number: np.full((2, 2), number),
    lambda number: {"a": number, "whole": int(number), "truth": number > 5},
    lambda number: _Moments(np.full(2, number), np.full((1, 3), number)),
    lambda number: {"moments": _Moments(np.full(2, number), number)},
    lambda number: _Settings(lr=number, mean=np.full(1, number)),
    lambda number: UserDict(mean=np.full(1, number)),
    lambda number: OrderedDict(mean=np.full(1, number)),
    lambda number: defaultdict(list, mean=[np.full(1, number)]),
    lambda number: Counter(steps=int(number)),
    lambda number: {"env": {0: [np.float32(number)], 1: [np.full(2, number, np.float16)]}},
]


def _plain(node: Any) -> Any:
    if isinstance(node, dict | UserDict):
        return {key: _plain(child) for key, child in node.items()}
    return [_plain(child) for child in node] if isinstance(node, list | tuple) else np.asarray(node).tolist()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("tree", TREES)
def test_a_tree_of_arrays_and_numbers_comes_back_without_a_framework(tmp_path, tree, form):
    """What is saved is loaded into a tree of other values, whatever containers it is made of."""
    path = keepfast.save(tree(7.0), tmp_path / f"obs.{form}")
    own = tree(1.0)
    report = keepfast.load(own, path)
    assert not report.differences
    assert _plain(own) == _plain(tree(7.0))


@pytest.mark.parametrize("part", [object(), range(3), np.array([None])])
def test_what_no_file_holds_is_named_within_its_tree(tmp_path, part):
    """A part that nobody can store is told by its path, also in a container of another class."""
    with pytest.raises(keepfast.UnsupportedModule, match="`odd`"):
        keepfast.save(_Settings(mean=np.zeros(1), odd=part), tmp_path / "obs.safetensors")
