"""Copies that are made again and again take the memory of those before them."""

from __future__ import annotations

import gc
import pickle
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfast._system.memory import staging
from keepfast._system.memory.staging import Staging, copied

LARGE = np.arange(1 << 15, dtype=np.float32)


def place(array: NDArray[np.float32]) -> int:
    """Return where an array lies."""
    return int(array.ctypes.data)


def test_memory_is_taken_again_once_every_view_is_gone() -> None:
    """Of a view of a view too, also where the copy itself is forgotten."""
    kept = Staging()
    with kept.in_use():
        first = copied(LARGE)
        at, view = place(first), first[1:].reshape(-1, 1)[::2].view(np.int32)
        del first
        second = copied(LARGE)
        assert place(second) != at
        del view
        assert kept.nbytes == LARGE.nbytes
        assert place(copied(LARGE)) == at
    assert (second == LARGE).all()


@pytest.mark.parametrize(
    "array", [LARGE, LARGE.reshape(2, -1).T, LARGE[::-1], LARGE.astype(">f4"), LARGE[:3], LARGE[0]]
)
@pytest.mark.parametrize("used", [True, False])
def test_a_copy_is_an_ordinary_array(array: NDArray[np.float32], used: bool) -> None:
    """In C order, writable and independent, of any size, shape and byte order, with memory that is kept and without."""
    kept = Staging()
    if used:
        with kept.in_use():
            copy = copied(array)
    else:
        copy = copied(array)
    assert type(copy) is np.ndarray
    assert copy.flags.c_contiguous
    assert copy.flags.writeable
    assert (copy.dtype, copy.shape) == (array.dtype, np.shape(array))
    assert (copy == array).all()
    assert not np.shares_memory(copy, array)
    assert (pickle.loads(pickle.dumps(copy)) == array).all()


def test_what_is_not_needed_is_given_back() -> None:
    """After two rounds without it, at the end at once, and with the copies that outlive that."""
    kept = Staging()
    with kept.in_use():
        copied(LARGE)
        copied(LARGE[: 1 << 14])
    for _ in range(2):
        assert kept.nbytes == LARGE.nbytes * 3 // 2
        with kept.in_use():
            copied(LARGE)
    assert kept.nbytes == LARGE.nbytes
    with kept.in_use():
        late = copied(LARGE)
    kept.close()
    assert kept.nbytes == 0
    assert (late == LARGE).all()
    del late
    gc.collect()
    assert kept.nbytes == 0
    with kept.in_use():  # a run that goes on after its end
        copied(LARGE)
    assert kept.nbytes == LARGE.nbytes


def test_no_more_is_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger is memory of its own."""
    monkeypatch.setattr(staging, "MOST", LARGE.nbytes)
    kept = Staging()
    with kept.in_use():
        copies = [copied(LARGE) for _ in range(3)]
        copies.append(copied(np.concatenate([LARGE, LARGE])))
        copies.clear()
    assert kept.nbytes == LARGE.nbytes


def test_only_who_says_so_reuses_memory() -> None:
    """Another thread of the same time does not."""
    kept, found = Staging(), []
    with kept.in_use():
        thread = threading.Thread(target=lambda: found.append(copied(LARGE)))
        thread.start()
        thread.join()
    found.clear()
    assert kept.nbytes == 0
