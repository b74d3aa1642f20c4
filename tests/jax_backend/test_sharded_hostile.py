"""A directory of Orbax that means harm takes the memory there is at most, leads nowhere else, and is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")

import keepfast
from keepfast_jax.sharding.orbax import ARRAYS, OrbaxStore
from tests.hostile import read_each
from tests.hostile.sharded import DOORS, Change, resealed, wrong

pytestmark = [
    pytest.mark.needs("orbax"),
    pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's"),
]

ZSTD = {"id": "zstd", "level": 1}
OF_THREADS = 1 << 30
"""How much address space the threads of tensorstore may take, of which each has a core's."""


def told(shape: tuple[int, ...], chunks: tuple[int, ...], **others: Any) -> bytes:
    """Return what a database tells of an array."""
    fixed = {"zarr_format": 2, "dtype": "<f4", "fill_value": 0, "filters": None, "order": "C"}
    return json.dumps({**fixed, "shape": shape, "chunks": chunks, "compressor": None, **others}).encode()


def database(**entries: bytes) -> Change:
    """Return what puts another database in the place of the honest one."""

    def change(directory: Path, _document: dict[str, Any]) -> None:
        import tensorstore as ts

        shutil.rmtree(directory / ARRAYS)
        store = ts.KvStore.open(
            {"driver": "ocdbt", "base": {"driver": "file", "path": f"{directory / ARRAYS}/"}}
        ).result()
        for name, content in entries.items():
            store.write(f"weight/{'.zarray' if name == 'told' else name.removeprefix('chunk')}", content).result()

    return change


def files(**entries: bytes) -> Change:
    """Return what has the arrays be files, as Orbax writes them without a database and reads them wherever they are."""

    def change(directory: Path, document: dict[str, Any]) -> None:
        arrays = directory / ARRAYS
        about = json.loads((arrays / "_METADATA").read_text()) | {"use_ocdbt": False}
        (arrays / "manifest.ocdbt").unlink()
        (outside := directory.with_name("elsewhere")).mkdir()
        for name, content in entries.items():
            (outside / name.replace("told", ".zarray").removeprefix("chunk")).write_bytes(content)
        (entry,) = about["tree_metadata"].values()
        entry["key_metadata"][0]["key"] = str(outside)
        about["tree_metadata"] = {str((str(outside),)): entry}
        (arrays / "_METADATA").write_text(json.dumps(about))
        document["state"]["dict"][0][1]["array"][0] = str(outside)

    return change


def pipe(directory: Path, _document: dict[str, Any]) -> None:
    """Have a file of the database be a pipe."""
    (directory / ARRAYS / "manifest.ocdbt").unlink()
    os.mkfifo(directory / ARRAYS / "manifest.ocdbt")


def link(directory: Path, _document: dict[str, Any]) -> None:
    """Have the database lie elsewhere."""
    (directory / ARRAYS).rename(directory.with_name("elsewhere"))
    (directory / ARRAYS).symlink_to(directory.with_name("elsewhere"))


def gone(directory: Path, _document: dict[str, Any]) -> None:
    """Have no arrays at all."""
    shutil.rmtree(directory / ARRAYS)


FLOATS = np.arange(16, dtype=np.float32).tobytes()
HUGE = 1 << 50
ROWS: dict[str, tuple[tuple[int, ...], Change]] = {
    "more than its bytes": ((HUGE,), database(told=told((HUGE,), (1 << 20,)))),
    "more than there is": ((HUGE,), database(told=told((HUGE,), (1 << 20,), compressor=ZSTD))),
    "another shape": ((16,), database(told=told((HUGE,), (1 << 20,)), chunk0=FLOATS)),
    "another dtype": ((16,), database(told=told((16,), (16,), dtype="<i4"), chunk0=FLOATS)),
    "chunks larger than the array": ((16,), database(told=told((16,), (HUGE,)), chunk0=FLOATS)),
    "chunks without end": ((1 << 24,), database(told=told((1 << 24,), (1,), compressor=ZSTD))),
    "a chunk that is not there": ((16,), database(told=told((16,), (16,), fill_value=7))),
    "a chunk that is cut": ((16,), database(told=told((16,), (16,)), chunk0=FLOATS[:10])),
    "another compression": ((16,), database(told=told((16,), (16,), compressor={"id": "zlib", "level": 9}))),
    "lists in each other": ((16,), database(told=b"[" * 100_000)),
    "arrays elsewhere": ((16,), files(told=told((16,), (16,)), chunk0=FLOATS)),
    "a pipe": ((16,), pipe),
    "a link": ((16,), link),
    "no arrays": ((16,), gone),
}


def test_what_means_harm_is_refused_within_limits(tmp_path: Path) -> None:
    """What the database says of an array is compared with the seal, and has room, before any of it is read."""
    OrbaxStore().save(
        keepfast.Checkpoint({"weight": np.arange(16, dtype=np.float32)}, {"timestep": 5, "module": "policy"}),
        honest := tmp_path / "honest.orbax",
    )
    asked = [("checkpoint", honest), ("checkpoint", tmp_path / "database" / "agent_5.orbax")]
    change = database(told=told((16,), (16,)), chunk0=FLOATS)
    resealed(Path(shutil.copytree(honest, asked[1][1])), change, (16,))
    names = ["honest", "honest database"]
    for index, (name, (shape, change)) in enumerate(ROWS.items()):
        path = tmp_path / str(index) / "agent_5.orbax"
        resealed(Path(shutil.copytree(honest, path)), change, shape)
        asked += [(door, path) for door in DOORS]
        names += [f"{name}: {door}" for door in DOORS]
    became = dict(zip(names, read_each(asked, OF_THREADS, imported=["jax", "tensorstore"]), strict=True))
    assert [became.pop("honest"), became.pop("honest database")] == ["value", "value"]
    assert wrong(became) == {}
