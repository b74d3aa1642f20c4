"""A storage keeps buffers; what it is not told to do otherwise, it does as NumPy does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import keepfast
from keepfast.errors import InvalidValue


@pytest.fixture
def made(storage: Callable[..., keepfast.Storage]) -> keepfast.Storage:
    """Return a storage of three rows and two environments with the buffer `x`, whose samples tell their places."""
    found = storage(3, 2)
    found.buffers["x"] = found.allocate((6, 1), "int32")
    found.write(0, {"x": np.arange(6)[:, None]})
    return found


def test_the_methods_that_differ_are_few() -> None:
    """A backend must write five; the others are right for buffers that act as NumPy's arrays."""
    assert keepfast.Storage.__abstractmethods__ == {"dtype_name", "allocate", "array", "write", "host_array"}


def test_a_row_is_what_users_give(made: keepfast.Storage) -> None:
    """Numbers in any form are written to the places of the row; what is none is refused by the name of its tensor."""
    made.write_row(1, {"x": [[7], [8]]})
    assert made.buffers["x"][:, 0].tolist() == [0, 1, 7, 8, 4, 5]
    with pytest.raises(InvalidValue, match="`x` was given a str, and numbers are needed"):
        made.write_row(1, {"x": "seven"})


def test_samples_are_taken_by_place(made: keepfast.Storage) -> None:
    """One by one in any order, from one to another, or all of them in another shape."""
    assert made.take(["x"], made.places([5, 0]))[0][:, 0].tolist() == [5, 0]
    assert made.slice("x", 2, 4)[:, 0].tolist() == [2, 3]
    assert made.view("x", (3, 2, 1))[:, :, 0].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_copy_on_the_host_is_independent(made: keepfast.Storage) -> None:
    """Samples that are written later do not reach it."""
    copied = made.host("x")
    made.write(0, {"x": np.full((6, 1), 9)})
    assert (copied[:, 0].tolist(), copied.dtype) == ([0, 1, 2, 3, 4, 5], np.dtype(np.int32))


def test_the_copy_is_independent_where_the_framework_shares_its_memory(
    made: keepfast.Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's arrays become arrays of NumPy over the same memory; a snapshot holds none of those."""
    monkeypatch.setattr(type(made), "host_array", lambda _storage, value: np.asarray(value))
    copied = made.host("x")
    made.write(0, {"x": np.full((6, 1), 9)})
    assert copied[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_random_places_follow_the_global_seed(made: keepfast.Storage) -> None:
    """Those of `numpy.random.seed`; without replacement each place comes once, and no more than there are."""
    np.random.seed(3)  # noqa: NPY002  (the generator that is documented)
    first = made.draw(6, 50, replacement=True).tolist()
    np.random.seed(3)  # noqa: NPY002  (the same)
    assert made.draw(6, 50, replacement=True).tolist() == first
    assert set(first) == set(range(6))
    assert sorted(made.draw(6, 50, replacement=False).tolist()) == list(range(6))
    assert len(set(made.draw(6, 4, replacement=False).tolist())) == 4


def test_places_beyond_the_memory_are_refused(made: keepfast.Storage) -> None:
    """A storage knows how many there are."""
    with pytest.raises(InvalidValue, match="the index 6 is none of the memory; allowed: 0 to 5"):
        made.places([6])


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (1.5, 1), ("3", 1)])
def test_sizes_are_whole_numbers(storage: Callable[..., keepfast.Storage], sizes: tuple[int, int]) -> None:
    """Of at least one; numbers of NumPy are as good as any."""
    with pytest.raises(InvalidValue, match="allowed: a whole number of at least 1"):
        storage(*sizes)
    assert type(storage(np.int64(3)).memory_size) is int
