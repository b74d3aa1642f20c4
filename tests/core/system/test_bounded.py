"""What is raised where the machine has not the memory that reading a file takes."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepfast
from keepfast._system.disk.bounded import within_memory


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))], ids=repr)
def test_too_little_memory_is_told_with_the_file(error: Exception) -> None:
    """Python says it in one way, a system that maps a file or starts a thread in another."""
    with (
        pytest.raises(keepfast.OutOfMemory, match=r"`some/file` holds what takes more memory"),
        within_memory("some/file"),
    ):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), FileNotFoundError("no"), ValueError("no")], ids=repr)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    """A disk that fails is no lack of memory."""
    with pytest.raises(type(error)) as raised, within_memory("some/file"):
        raise error
    assert raised.value is error


@pytest.mark.needs("polars")
def test_a_memory_that_cannot_be_mapped_is_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every other door, so the one of text, which is mapped."""
    path = tmp_path / "memory.csv"
    path.write_bytes(b"rewards.0\n1.0\n")

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    assert np.array_equal(keepfast.read_memory(path).tensors["rewards"].reshape(-1), [1.0])
    monkeypatch.setattr(mmap, "mmap", refused)
    with pytest.raises(keepfast.OutOfMemory, match=r"memory\.csv"):
        keepfast.read_memory(path)
