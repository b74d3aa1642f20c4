"""Whatever a tree holds, every checkpoint format gives it back."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from keepfast.errors import CorruptCheckpoint, Unreadable
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata, CheckpointStore
from keepfast.plugins import registry
from keepfast.testing.checkpoint_store import DTYPES, assert_same
from keepfast.tree import Tree

needs_msgpack = pytest.mark.needs("msgpack")
FORMATS = ("pt", "safetensors", *(pytest.param(name, marks=needs_msgpack) for name in ("msgpack", "pickle")))

shapes = arrays_of.array_shapes(min_dims=0, min_side=0)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sets(st.integers(), max_size=4),
    st.sampled_from(DTYPES).flatmap(lambda dtype: arrays_of.arrays(dtype, shapes)),
)
keys = st.one_of(st.text(max_size=10), st.integers(), st.none(), st.tuples(st.integers(), st.text(max_size=3)))


def containers(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.one_of(
        st.lists(children, max_size=4),
        st.lists(children, max_size=4).map(tuple),
        st.dictionaries(keys, children, max_size=4),
        st.dictionaries(keys, children, max_size=4).map(OrderedDict),
        st.dictionaries(keys, st.integers(-9, 9), max_size=4).map(Counter),
    )


trees = st.recursive(leaves, containers, max_leaves=12)
thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


KNOWN = {field.name for field in dataclasses.fields(CheckpointMetadata)}
"""Keys of metadata that may have values of their kind alone."""


@pytest.fixture(params=FORMATS)
def store(request: pytest.FixtureRequest) -> CheckpointStore:
    return registry().get("checkpoint format", request.param)()


@pytest.fixture
def path(store: CheckpointStore, tmp_path: Path) -> Path:
    return tmp_path / f"agent{store.extension}"


@given(state=st.dictionaries(st.text(max_size=10), trees, max_size=4), metadata=st.dictionaries(st.text(), trees))
@thorough
def test_every_tree_comes_back(store: CheckpointStore, path: Path, state: Any, metadata: Any) -> None:
    """A state and metadata of any containers, keys and leaves come back as they were."""
    metadata = {key: value for key, value in metadata.items() if key not in KNOWN}
    store.save(Checkpoint(state, metadata), path)
    loaded = store.load(path)
    assert_same(loaded.state, state)
    assert_same(loaded.metadata, metadata, "metadata")


@given(tree=trees)
@thorough
def test_every_tree_is_a_module(store: CheckpointStore, path: Path, tree: Any) -> None:
    """A tree of any kind, an array or a number too, comes back as the state of one module."""
    store.save(Checkpoint(tree, {"module": "m"}), path)
    assert_same(store.load(path).modules, {"m": tree})


@given(content=st.binary(max_size=300))
@thorough
def test_no_bytes_do_more_than_raise(store: CheckpointStore, path: Path, content: bytes) -> None:
    """Bytes of any kind are read, where they happen to be of the format, or raise that they are damaged or not read."""
    path.write_bytes(content)
    try:
        store.load(path)
    except (CorruptCheckpoint, Unreadable) as error:
        assert str(path) in str(error)  # noqa: PT017  (some bytes are of the format, and raise nothing)


@given(data=st.data())
@thorough
def test_no_change_goes_unnoticed(store: CheckpointStore, path: Path, data: st.DataObject) -> None:
    """A file with any run of bytes replaced by any other raises CorruptCheckpoint."""
    store.save(Checkpoint({"policy": {"w": np.arange(1.0, 40.0)}, "n": [1, (2,)]}, {"timestep": 3}), path)
    intact = path.read_bytes()
    start = data.draw(st.integers(0, len(intact)))
    end = data.draw(st.integers(start, len(intact)))
    changed = intact[:start] + data.draw(st.binary(max_size=64)) + intact[end:]
    if changed == intact:
        return
    path.write_bytes(changed)
    with pytest.raises(CorruptCheckpoint):
        store.load(path)
