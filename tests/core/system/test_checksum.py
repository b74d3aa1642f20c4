"""The checksum of every file is the CRC-32 of zlib, whatever computes it."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from keepfast._system.disk.checksum import Summed, SummedFile, crc32

SIZES = [0, 1, 7, 1 << 10, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 3 * (1 << 18) + 5]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_summed(size: int) -> None:
    """Also where it goes on from another checksum, and of items wider than a byte."""
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    file = io.BytesIO()
    summed = SummedFile(file)
    assert summed.write(data.data) == zlib.crc32(data) == crc32(data)
    assert summed.write(data.data, 77) == zlib.crc32(data, 77) == crc32(data, 77)
    summed.flush()
    assert file.getvalue() == 2 * data.tobytes()
    wide = np.arange(size % 1000, dtype=np.float64)
    assert summed.write(wide.data) == zlib.crc32(wide)
    summed.flush()
    assert summed.position == len(file.getvalue())
    assert summed.after(b"") == Summed(zlib.crc32(file.getvalue()))
    assert summed.after(b"before") == Summed(zlib.crc32(b"before" + file.getvalue()))


def test_the_disk_begins_before_all_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte is told once, and where the system refuses, or has no such call, it is written all the same."""
    told: list[tuple[int, int]] = []
    data = np.zeros(40_000_000, np.uint8)

    def advise(_descriptor: int, start: int, nbytes: int, _advice: int) -> None:
        told.append((start, nbytes))
        if len(told) == 2:
            raise OSError(errno.EINVAL, "no such advice")

    monkeypatch.setattr(os, "posix_fadvise", advise, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"before")
        summed = SummedFile(file)
        for _ in range(2):
            summed.write(data.data)
    ends = [start + nbytes for start, nbytes in told]
    assert [start for start, _ in told] == [6, *ends[:-1]]
    assert len(told) == 2 * data.nbytes // (1 << 23)
    monkeypatch.delattr(os, "posix_fadvise")
    with (tmp_path / "other").open("w+b") as file:
        assert SummedFile(file).write(data.data) == zlib.crc32(data)
    assert (tmp_path / "other").stat().st_size == data.nbytes


def test_zlib_is_there_where_the_library_is_not() -> None:
    """A system without a wheel of it reads and writes the same files."""
    program = (
        "import sys; sys.modules['isal'] = sys.modules['isal.isal_zlib'] = None\n"
        "import zlib; from keepfast._system.disk.checksum import crc32; assert crc32 is zlib.crc32"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
