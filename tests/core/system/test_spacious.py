"""Arrays that are larger than memory lie in files that vanish with them."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from keepfast._system.memory.spacious import spacious_tensors
from keepfast.errors import WriteFailed


def test_large_arrays_lie_in_files() -> None:
    """Arrays that are large together are backed by temporary files, and hold zeros until they are written."""
    layout = {"a": ((4, 4), np.dtype(np.float32)), "b": ((0, 4), np.dtype(np.int8)), "c": ((9,), np.dtype(np.int8))}
    arrays = spacious_tensors(layout, large=64 + 9)
    arrays["a"][1] = 5
    assert [isinstance(array, np.memmap) for array in arrays.values()] == [True, False, True]
    assert [array.sum() for array in arrays.values()] == [20, 0, 0]
    assert not any(isinstance(array, np.memmap) for array in spacious_tensors(layout, large=64 + 10).values())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_no_room_for_large_arrays_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where temporary files have no room, making the arrays fails at once and names the directory."""

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(WriteFailed, match=r"has no room for 16 bytes .*No space left on device.*TMPDIR"):
        spacious_tensors({"a": ((4,), np.dtype(np.float32))}, large=1)
