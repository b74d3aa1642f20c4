"""Episodes as Minari has them in HDF5, and tables of Parquet, that mean harm: each asks for more than it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 3


def dataset(observations: Callable[[Any], None]) -> Callable[[Path], Path]:
    """Return what makes a dataset of one episode, whose observations are put into its group by a function."""

    def make(directory: Path) -> Path:
        import h5py

        (path := directory / "x.minari").mkdir()
        with h5py.File(path / "main_data.hdf5", "w") as data:
            group = data.create_group("episode_0")
            group["rewards"], group["actions"] = np.zeros(STEPS), np.zeros(STEPS)
            group["terminations"], group["truncations"] = np.zeros(STEPS, bool), np.zeros(STEPS, bool)
            observations(group)
        return path

    return make


def _grows(group: Any) -> None:
    shape = (STEPS + 1, 1 << 26)
    group.create_dataset("observations", shape, "u1", chunks=(1, 1 << 24), compression="gzip", fillvalue=0)
    for row in range(STEPS + 1):
        group["observations"][row, : 1 << 24] = 0


def _chunk(group: Any) -> None:
    group.create_dataset("observations", (STEPS + 1, 1 << 28), "u1", chunks=(1, 1 << 28), compression="gzip")
    group["observations"][0, :1] = 1


def _claims(group: Any) -> None:
    group.create_dataset("observations", (STEPS + 1, 1 << 40), "f4", chunks=(1, 1024))


def _doubles(group: Any) -> None:
    node = group.create_group("observations")
    for _ in range(64):
        inner = node.create_group("a")
        node["b"] = inner
        node = inner


def _deep(group: Any) -> None:
    node = group.create_group("observations")
    for _ in range(2_000):
        node = node.create_group("a")
    node["x"] = np.zeros((STEPS + 1, 1))


def _many(group: Any) -> None:
    node = group.create_group("observations")
    for number in range(3_000):
        node[str(number)] = np.zeros(STEPS + 1, np.uint8)


def _texts(group: Any) -> None:
    import h5py

    group.create_dataset("observations", (STEPS + 1,), h5py.string_dtype())
    group["observations"][0] = "x" * (1 << 20)


def _ragged(group: Any) -> None:
    import h5py

    group.create_dataset("observations", (STEPS + 1,), h5py.vlen_dtype(np.uint8))
    for row in range(STEPS + 1):
        group["observations"][row] = np.zeros(1 << (4 * row), np.uint8)


def _named(group: Any) -> None:
    group.create_group("observations")["\x1b]0;title\x07\x1b[2J\u202e"] = np.zeros((STEPS, 1))


def _elsewhere(group: Any) -> None:
    group.create_dataset("observations", (STEPS + 1, 8), "u1", external=[("/etc/passwd", 0, 8 * (STEPS + 1))])


def _linked(group: Any) -> None:
    import h5py

    group["observations"] = h5py.ExternalLink("/dev/zero", "/x")


DATASETS = {
    "grows": _grows,
    "chunk": _chunk,
    "claims": _claims,
    "doubles": _doubles,
    "deep": _deep,
    "many": _many,
    "texts": _texts,
    "ragged": _ragged,
    "named": _named,
    "elsewhere": _elsewhere,
    "linked": _linked,
}


def _of_columns(columns: dict[str, Any], **options: Any) -> Callable[[Path], Path]:
    def make(directory: Path) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path := directory / "x.parquet", **options)
        return path

    return make


def _nested() -> Any:
    import pyarrow as pa

    kind = pa.float32()
    for _ in range(60):
        kind = pa.list_(kind)
    return pa.nulls(3, kind)


TABLES: dict[str, Callable[[Path], Path]] = {
    "grows": lambda at: _of_columns({"x": np.zeros(1 << 25)}, compression="zstd")(at),
    "one value": lambda at: _of_columns({"x": ["y" * (1 << 20)] * 4_000}, compression="zstd")(at),
    "columns": lambda at: _of_columns({f"c{each}": [1.0] for each in range(5_000)})(at),
    "groups": lambda at: _of_columns({"x": np.arange(3_000.0)}, row_group_size=1)(at),
    "named": lambda at: _of_columns({"\x1b]0;title\x07\x1b[2J\u202e": [1.0, 2.0]})(at),
    "nested": lambda at: _of_columns({"x": _nested()})(at),
    "nothing": lambda at: _of_columns({})(at),
}
