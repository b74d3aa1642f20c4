"""The checksum of every file is the CRC-32 of zlib, whatever computes it."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib

import numpy as np
import pytest

from keepfast._system.disk.checksum import crc32, write_summed

SIZES = [0, 1, 7, 1 << 10, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 3 * (1 << 18) + 5]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_summed(size: int) -> None:
    """Also where it goes on from another checksum, and of items wider than a byte."""
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    file = io.BytesIO()
    assert write_summed(file, data.data) == zlib.crc32(data) == crc32(data)
    assert write_summed(file, data.data, 77) == zlib.crc32(data, 77) == crc32(data, 77)
    assert file.getvalue() == 2 * data.tobytes()
    wide = np.arange(size % 1000, dtype=np.float64)
    assert write_summed(io.BytesIO(), wide.data) == zlib.crc32(wide)


def test_zlib_is_there_where_the_library_is_not() -> None:
    """A system without a wheel of it reads and writes the same files."""
    program = (
        "import sys; sys.modules['isal'] = sys.modules['isal.isal_zlib'] = None\n"
        "import zlib; from keepfast._system.disk.checksum import crc32; assert crc32 is zlib.crc32"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
