"""A directory of `torch.distributed.checkpoint` that means harm takes what its files have, and is refused."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import keepfast
from keepfast_torch.sharding.dcp import DcpStore
from tests.hostile import read_each
from tests.hostile.making import archive, tensor
from tests.hostile.sharded import DOORS, Change, resealed, wrong

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")

FILE = "__0_0.distcp"
BIG = 1 << 30


def places(*parts: tuple[Any, ...]) -> Change:
    """Return what has the seal say that the array is of other parts; None stands for the honest length."""

    def change(directory: Path, document: dict[str, Any]) -> None:
        length = (directory / FILE).stat().st_size
        document["arrays"]["weight"] = [[*part[:4], length if part[4] is None else part[4]] for part in parts]

    return change


def part(pickled: bytes) -> Change:
    """Return what puts another archive in the place of the array's only part."""

    def change(directory: Path, document: dict[str, Any]) -> None:
        archive(directory / FILE, pickled, {"data/0": bytes(40)})
        document["arrays"]["weight"][0][1] = document["state"]["dict"][0][1]["array"][2]
        document["arrays"]["weight"][0][4] = (directory / FILE).stat().st_size

    return change


def many(_directory: Path, document: dict[str, Any]) -> None:
    """Have the seal tell of the same part as many arrays."""
    names = [f"a{index}" for index in range(300)]
    document["arrays"] = dict.fromkeys(names, document["arrays"]["weight"])
    document["state"] = {"dict": [[name, {"array": [name, "float32", [10]]}] for name in names]}


def twice(directory: Path, document: dict[str, Any]) -> None:
    """Have two parts of the file be in the same place of the array."""
    length = (directory / FILE).stat().st_size
    (directory / FILE).write_bytes((directory / FILE).read_bytes() * 2)
    document["arrays"]["weight"] = [[[0], [10], FILE, start, length] for start in (0, length)]


def pipe(directory: Path, document: dict[str, Any]) -> None:
    """Have a part be a pipe."""
    os.mkfifo(directory / "x.distcp")
    document["arrays"]["weight"][0][2] = "x.distcp"


def link(directory: Path, _document: dict[str, Any]) -> None:
    """Have a part lie elsewhere."""
    (directory / FILE).rename(directory.with_name("elsewhere"))
    (directory / FILE).symlink_to(directory.with_name("elsewhere"))


HONEST = [0], [10], FILE, 0, None
ROWS: dict[str, tuple[tuple[int, ...], Change]] = {
    "overlapping places": ((20,), twice),
    "the same bytes twice": ((20,), places(HONEST, [[10], *HONEST[1:]])),
    "the same bytes over and over": ((2000,), places(*([[10 * index], *HONEST[1:]] for index in range(200)))),
    "the same part in many arrays": ((10,), many),
    "a negative length": ((10,), places(([0], [10], FILE, 0, -1))),
    "a huge length": ((10,), places(([0], [10], FILE, 0, 1 << 62))),
    "a negative beginning": ((10,), places(([0], [10], FILE, -8, None))),
    "a place before the array": ((10,), places(([-10], [10], FILE, 0, None))),
    "more than its bytes": ((1 << 50,), places(([0], [1 << 50], FILE, 0, None))),
    "another folder": ((10,), places(([0], [10], f"../{FILE}", 0, None))),
    "a file that is not there": ((10,), places(([0], [10], "y.distcp", 0, None))),
    "the folder itself": ((10,), places(([0], [10], "..", 0, None))),
    "a pipe": ((10,), pipe),
    "a link": ((10,), link),
    "a key of tuples in each other": ((10,), part(b"\x80\x02}()" + b"\x85" * 200_000 + b"Nu.")),
    "strides of nothing": ((BIG,), part(b"\x80\x02" + tensor((BIG,), (0,), numel=10) + b".")),
    "a memo without end": ((10,), part(b"\x80\x02}r\0\0\0\x08.")),
}


def test_what_means_harm_is_refused_within_limits(tmp_path: Path) -> None:
    """Every part lies in a file of the directory, in one place, and is read with no loader but ours."""
    DcpStore().save(
        keepfast.Checkpoint({"weight": np.arange(10, dtype=np.float32)}, {"timestep": 5, "module": "policy"}),
        honest := tmp_path / "honest.dcp",
    )
    asked, names = [("checkpoint", honest)], ["honest"]
    for index, (name, (shape, change)) in enumerate(ROWS.items()):
        path = tmp_path / str(index) / "agent_5.dcp"
        resealed(Path(shutil.copytree(honest, path)), change, shape)
        asked += [(door, path) for door in DOORS]
        names += [f"{name}: {door}" for door in DOORS]
    became = dict(zip(names, read_each(asked, imported=["keepfast_torch.sharding.writing"]), strict=True))
    assert became.pop("honest") == "value"
    assert wrong(became) == {}
