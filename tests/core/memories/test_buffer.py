"""A buffer puts samples round and round into its storage, and tells whoever listens."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keepfast.errors import InvalidValue, LoadMismatch, ShapeMismatch, UnknownTensor
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import Ring
from keepfast.memories.buffer import SampleBuffer
from keepfast.memories.storage import Storage


@pytest.fixture
def buffer(storage: Callable[..., Storage]) -> SampleBuffer:
    """Return a buffer of three rows and two environments with the tensor `x`."""
    made = SampleBuffer(storage(3, 2))
    made.create("x", 1, "int32", keep_dimensions=False)
    return made


def listened(buffer: SampleBuffer) -> list[Any]:
    """Return a list that grows with all the buffer tells."""
    told: list[Any] = []
    buffer.listeners.added.append(lambda start, count: told.append(("added", start, count)))
    buffer.listeners.filled.append(
        lambda cycle, snapshot: told.append(("filled", cycle, snapshot().tensors["x"].reshape(-1).tolist()))
    )
    buffer.listeners.replaced.append(lambda: told.append("replaced"))
    return told


def test_whoever_listens_is_told_what_is_added(buffer: SampleBuffer) -> None:
    """Every sample is told once, by its place, in parts that end with the last row."""
    told = listened(buffer)
    buffer.add({"x": np.array([[0], [1]])})
    buffer.add({"x": np.array([2])})
    buffer.add({"x": np.arange(3, 9).reshape(3, 2, 1)})
    assert told == [
        ("added", 0, 2),
        ("added", 2, 1),
        ("added", 3, 3),
        ("filled", 1, [0, 1, 2, 3, 4, 5]),
        ("added", 0, 3),
    ]
    assert buffer.cursor.ring == Ring(3, 2, 1, 1, filled=True)


def test_a_full_buffer_is_told_before_anything_is_overwritten(buffer: SampleBuffer) -> None:
    """Each cycle by its number, with the samples of that cycle, however many are added at once."""
    told = listened(buffer)
    buffer.add({"x": np.arange(14).reshape(7, 2, 1)})
    assert [each for each in told if each[0] == "filled"] == [
        ("filled", 1, [0, 1, 2, 3, 4, 5]),
        ("filled", 2, [6, 7, 8, 9, 10, 11]),
    ]
    assert buffer.snapshot().metadata["cycle"] == 2


def test_whoever_listens_is_told_what_changes_otherwise(buffer: SampleBuffer) -> None:
    """A tensor that is set, a snapshot that is restored, and a reset are no samples that were added."""
    buffer.add({"x": np.array([[0], [1]])})
    told = listened(buffer)
    buffer.set_tensor("x", np.zeros((6, 1), np.int32))
    buffer.restore(buffer.snapshot())
    buffer.reset()
    assert told == ["replaced"] * 3


def test_what_is_refused_is_told_to_nobody(buffer: SampleBuffer) -> None:
    """And counts as no change."""
    told, changes = listened(buffer), buffer.changes
    for wrong, error in (
        ({"y": np.zeros((2, 1))}, UnknownTensor),
        ({"x": np.zeros((2, 2))}, ShapeMismatch),
        ({"x": "text"}, InvalidValue),
        ({}, InvalidValue),
    ):
        with pytest.raises(error):
            buffer.add(wrong)
    with pytest.raises(LoadMismatch):
        buffer.restore(MemorySnapshot({"y": np.zeros((3, 2, 1))}, 0, 0, filled=True))
    assert (told, buffer.changes, len(buffer)) == ([], changes, 0)


@pytest.mark.parametrize(("value", "kept_as"), [(2**40 + 7, "int32"), (0.1, "float32"), (1e300, "float32")])
def test_values_that_a_narrower_dtype_lacks_are_refused(
    buffer: SampleBuffer, monkeypatch: pytest.MonkeyPatch, value: float, kept_as: str
) -> None:
    """A framework may keep wide dtypes as narrow ones, which is no difference as long as no value changes."""
    monkeypatch.setattr(type(buffer.storage), "dtype_name", lambda _storage, dtype: str(dtype).replace("64", "32"))
    monkeypatch.setattr(type(buffer.storage), "keeps_wide", "ask for more")
    buffer = SampleBuffer(buffer.storage)
    buffer.create("y", 1, kept_as, keep_dimensions=False)
    exact = np.full((3, 2, 1), 8, kept_as.replace("32", "64"))
    buffer.restore(MemorySnapshot({"y": exact}, 0, 0, filled=True, metadata={"keep_dimensions": {"y": False}}))
    assert buffer.snapshot().tensors["y"].tolist() == exact.tolist()
    inexact = np.full((3, 2, 1), value, exact.dtype)
    with pytest.raises(LoadMismatch, match=rf"with values that {kept_as}, .* does not have; ask for more"):
        buffer.restore(MemorySnapshot({"y": inexact}, 0, 0, filled=True))
    assert buffer.snapshot().tensors["y"].tolist() == exact.tolist()


def test_every_change_is_counted(buffer: SampleBuffer) -> None:
    """So that what was made of the samples is known to be old."""
    seen = [buffer.changes]
    for change in (
        lambda: buffer.add({"x": np.array([[0], [1]])}),
        lambda: buffer.add({"x": np.array([2])}),
        lambda: buffer.set_tensor("x", np.zeros((6, 1), np.int32)),
        lambda: buffer.restore(buffer.snapshot()),
        buffer.reset,
    ):
        change()
        seen.append(buffer.changes)
    assert seen == sorted(set(seen))


def test_a_pickled_buffer_is_that_of_its_moment(buffer: SampleBuffer) -> None:
    """What is taken for pickling is independent of samples that are added before it is pickled."""
    buffer.add({"x": np.array([[5], [6]])})
    buffer.cursor.seams = {0}
    state = buffer.__getstate__()
    buffer.add({"x": np.array([[7], [8]])})
    buffer.cursor.seams.clear()
    other = SampleBuffer.__new__(SampleBuffer)
    other.__setstate__(pickle.loads(pickle.dumps(state)))
    assert (len(other), other.cursor.seams, other.storage.backend) == (2, {0}, "numpy")
    other.add({"x": np.array([[9], [9]])})
    assert other.snapshot().tensors["x"].reshape(-1).tolist() == [5, 6, 9, 9, 0, 0]
    assert buffer.snapshot().tensors["x"].reshape(-1).tolist() == [5, 6, 7, 8, 0, 0]
