"""Episodes as Minari has them in Arrow and Parquet, made by pyarrow alone: honest ones, and some that mean harm."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

METADATA = json.dumps(
    {
        "total_episodes": 1,
        "data_format": "arrow",
        "observation_space": json.dumps({"type": "Box", "dtype": "float32", "shape": [2, 1]}),
        "action_space": json.dumps({"type": "Discrete", "dtype": "int64", "start": 0, "n": 3}),
    }
).encode()


def parts(kind: str, content: bytes) -> dict[str, bytes]:
    """Return the files of a dataset by their names: of one episode, whose table is given."""
    return {"metadata.json": METADATA.replace(b"arrow", kind.encode()), f"0/part-0.{kind}": content}


def table(**others: Any) -> Any:
    """Return the table of an episode of five steps, with other columns in it or in the place of its own."""
    import pyarrow as pa

    rows = [False] * 6
    items = pa.array([float(each) for each in range(12)], pa.float32())
    columns = {
        "observations": pa.FixedSizeListArray.from_arrays(items, 2),
        "actions": pa.array(range(6)),
        "rewards": pa.array([0.5] * 6),
        "terminations": pa.array(rows),
        "truncations": pa.array(rows),
        "infos": pa.StructArray.from_arrays([pa.array(["text"] * 6)], ["told"]),
        **others,
    }
    return pa.Table.from_pydict(columns)


def arrow(columns: Any, compression: str | None = None) -> bytes:
    """Return an Arrow file of a table."""
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression=compression)
    with io.BytesIO() as file:
        with pa.ipc.new_file(file, columns.schema, options=options) as writer:
            writer.write_table(columns)
        return file.getvalue()


def parquet(columns: Any) -> bytes:
    """Return a Parquet file of a table."""
    import pyarrow.parquet as pq

    with io.BytesIO() as file:
        pq.write_table(columns, file)
        return file.getvalue()


WRITE: dict[str, Callable[[Any], bytes]] = {"arrow": arrow, "parquet": parquet}


def hostile() -> Iterator[tuple[str, str, bytes]]:
    """Yield what hurts, the kind of file, and the table of an episode."""
    import pyarrow as pa

    grows = pa.FixedSizeListArray.from_arrays(pa.array(bytes(6 << 25), pa.uint8()), 1 << 25)
    yield "grows.arrow", "arrow", arrow(table(observations=grows), "zstd")
    yield "grows.parquet", "parquet", parquet(table(observations=grows))
    shared = pa.array(bytes(1 << 20)[:6], pa.uint8())
    yield "parts.arrow", "arrow", arrow(table(observations=_parts(shared, 2000)))
    yield "no parts.arrow", "arrow", arrow(table(observations=pa.array([{}] * 6, pa.struct([]))))
    yield "nothing.arrow", "arrow", arrow(table(observations=pa.nulls(6)))
    lists = pa.array([[]] * 6, pa.list_(pa.float32(), 0))
    yield "lists of nothing.arrow", "arrow", arrow(table(observations=lists))
    deep = pa.array([1.0] * 6)
    for _ in range(60):
        deep = pa.StructArray.from_arrays([deep], ["\x1b]0;title\x07\u202e" * 9])
    yield "deep.arrow", "arrow", arrow(table(observations=deep))
    yield "images.arrow", "arrow", arrow(table(observations=pa.array([_image()] + [b"\xff\xd8\xff"] * 5)))
    yield "no images.parquet", "parquet", parquet(table(observations=pa.array([b""] * 6)))
    yield "missing.arrow", "arrow", arrow(table(rewards=pa.array([None, 1.0, 1.0, 1.0, 1.0, 1.0])))
    words = pa.array(["a"] * 6).dictionary_encode()
    yield "words.arrow", "arrow", arrow(table(infos=words))
    yield "no rows.arrow", "arrow", arrow(table().slice(0, 0))
    whole = arrow(table())
    lengths = whole.replace((6).to_bytes(8, "little"), (1 << 62).to_bytes(8, "little"))
    yield "long.arrow", "arrow", lengths
    yield "twice.arrow", "arrow", whole[:-6] + whole
    yield "no schema.arrow", "arrow", whole[:37] + b"\3" + whole[38:]
    yield "cut.arrow", "arrow", whole[: len(whole) // 2] + whole[-6:]


def _parts(values: Any, count: int) -> Any:
    import pyarrow as pa

    return pa.StructArray.from_arrays([values] * count, [str(each) for each in range(count)])


def _image() -> bytes:
    """Return a JPEG of hardly any bytes that says it has the most pixels."""
    parts = ["ffd8ffe000104a46494600010100000100010000", "ffc0001108ffffffff03012200021101031101"]
    parts += ["ffda000c03010002110311003f00", "ffd9"]
    return bytes.fromhex("".join(parts))


def placed(files: dict[str, bytes], directory: Path) -> Path:
    """Write files into a folder of a directory, and return that."""
    for name, content in files.items():
        (path := directory / "dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory / "dataset"
