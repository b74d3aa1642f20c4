"""Whatever a file holds, every door that it comes to answers with a value or a `KeepfastError`, within limits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.hostile import read_each
from tests.hostile.doors import DOORS
from tests.hostile.table import rows

pytestmark = [
    pytest.mark.needs("polars", "pyarrow", "h5py", "msgpack"),
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's"),
]


@pytest.mark.timeout(900)
def test_every_door_answers_within_limits(tmp_path: Path) -> None:
    """With 64 MB and four times the file, in time; the command line with text alone, and with no error unforeseen."""
    asked, names = list[tuple[str, Path]](), list[str]()
    for index, row in enumerate(rows()):
        (directory := tmp_path / str(index)).mkdir()
        path = row.make(directory)
        asked += [(door, path) for door in row.doors]
        names += [f"{row.name}: {door}" for door in row.doors]
    became = dict(zip(names, read_each(asked, warm=True), strict=True))
    assert {name: what for name, what in became.items() if what.startswith(("raised", "ended"))} == {}
    assert {door for door, _ in asked} == set(DOORS)
