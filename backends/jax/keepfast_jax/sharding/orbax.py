"""OrbaxStore: checkpoints of Orbax, in a directory that all processes write together and Keepfast seals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from keepfast import CorruptCheckpoint, ShardedArray, ShardedFormat, WriteFailed, Written
from keepfast._system.disk.bounded import require_room

ARRAYS = "arrays"
"""The directory that is Orbax's, in that of the checkpoint; its own tools read it."""

_TIMES, _OF_A_CHUNK = 2, 4096
"""What tensorstore takes to read an array: so many times its bytes, and so many bytes for each chunk of it."""


@final
class OrbaxStore(ShardedFormat):
    """Writes and reads arrays by Orbax, a flat dictionary of them by their paths."""

    extension: ClassVar[str] = ".orbax"
    parts = ("keepfast.json", ARRAYS)

    def write_arrays(self, arrays: Mapping[str, NDArray[Any] | ShardedArray], directory: Path) -> Written:
        """Have Orbax write what this process has of the arrays; the first writes those that are not spread.

        Raises:
            WriteFailed: if it could not.
        """
        if not arrays:
            return Written()
        import orbax.checkpoint as ocp

        held = {path: each.held if isinstance(each, ShardedArray) else each for path, each in arrays.items()}
        among = None if self.peers is None else set(range(self.peers.size))
        options = ocp.options.MultiprocessingOptions(  # its barriers are then the coordinator's, not the devices'
            primary_host=0, active_processes=among, barrier_sync_key_prefix=directory.name
        )
        try:
            with _checkpointer(options) as checkpointer:
                checkpointer.save((directory / ARRAYS).absolute(), args=ocp.args.PyTreeSave(held))
        except OSError:
            raise
        except (RuntimeError, ValueError) as error:
            raise WriteFailed(f"Orbax could not write `{directory}`: {error}") from error
        return self.settled(directory)  # no process is through with Orbax before all are

    def read_arrays(
        self, directory: Path, told: Any, outlines: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    ) -> Mapping[str, NDArray[Any]]:
        """Return whole arrays; this process asks no other.

        Orbax's own reading goes where a file of it says, and into as much memory. Here the database that Orbax writes
        is opened, in which names are no paths, and what it says of an array is compared before any of that is read.
        """
        if not outlines:
            return {}
        arrays = (directory / ARRAYS).absolute()
        stored = sum(file.stat().st_size for file in arrays.rglob("*"))
        return {path: _read(arrays, stored, path, *outline) for path, outline in outlines.items()}


def _read(arrays: Path, stored: int, path: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return one array, whole.

    Args:
        arrays: the directory of Orbax.
        stored: the bytes of all files in it.
        path: the array's.
        dtype: its dtype.
        shape: its shape.

    Raises:
        CorruptCheckpoint: if it is another there, or not all of it is there.
        MemoryError: if it has no room.
    """
    import tensorstore as ts

    database = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{arrays}/"}, "path": f"{path}/"}
    array: Any = ts.open({"driver": "zarr", "kvstore": database, "fill_missing_data_reads": False}, read=True).result()
    chunk, codec = array.chunk_layout.read_chunk.shape or (), array.codec.to_json().get("compressor")
    if (array.dtype.numpy_dtype, tuple(array.shape)) != (dtype, shape):
        raise CorruptCheckpoint(f"`{arrays}` is damaged: `{path}` is {array.dtype.name}{list(array.shape)} there")
    nbytes = math.prod(shape) * dtype.itemsize
    if any(part > side for part, side in zip(chunk, shape, strict=True)) or (codec is None and nbytes > stored):
        raise CorruptCheckpoint(f"`{arrays}` is damaged: `{path}` is in parts that are larger than what has them")
    if codec is not None and codec["id"] != "zstd":
        raise CorruptCheckpoint(f"`{arrays}` is damaged: `{path}` is compressed as Orbax does not")
    count = math.prod(-(-side // part) for part, side in zip(chunk, shape, strict=True))
    require_room(stored + _TIMES * nbytes + _OF_A_CHUNK * count)
    return np.asarray(array.read().result())


def _checkpointer(options: Any) -> Any:
    import orbax.checkpoint as ocp

    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=False, multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)
