"""Tensors as ``torch.distributed.checkpoint`` writes them, and read back without the pickle that lies beside them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save

from keepfast import CorruptCheckpoint, ShardedArray, WriteFailed
from keepfast_torch.arrays import DTYPES, array_of, tensor_of
from keepfast_torch.sharding.tensors import Piece

NAMES = frozenset(str(dtype).removeprefix("torch.") for dtype in DTYPES)
"""The dtypes that PyTorch has, as NumPy calls them."""

_Arrays = Mapping[str, NDArray[Any] | ShardedArray]


def write(arrays: _Arrays, directory: Path, group: Any) -> dict[str, list[Any]]:
    """Have ``torch.distributed.checkpoint`` write what this process has, and return where it all is.

    Args:
        arrays: the arrays by path.
        directory: where to.
        group: the process group that writes; None where this process is alone.

    Raises:
        WriteFailed: if it could not, in this process or another.
    """
    writer, planner = FileSystemWriter(directory), _Planner(arrays)
    try:
        if group is None:
            written = _save_alone(writer, planner)
        else:
            written = save({}, storage_writer=writer, planner=planner, process_group=group)
    except (RuntimeError, ValueError, CheckpointException) as error:  # the last of which is no `Exception`
        raise WriteFailed(f"torch.distributed.checkpoint could not write `{directory}`: {error}") from error
    return {path: list(_places(path, written)) for path in arrays}


def _save_alone(writer: FileSystemWriter, planner: DefaultSavePlanner) -> Metadata:
    """Do what ``dcp.save`` does in a single process, where it warns of being alone."""
    planner.set_up_planner({}, writer.storage_meta(), is_coordinator=True)
    writer.set_up_storage_writer(True)
    plans, metadata = planner.create_global_plan([writer.prepare_local_plan(planner.create_local_plan())])
    (plan,) = writer.prepare_global_plan(plans)
    writer.finish(metadata, [writer.write_data(planner.finish_plan(plan), planner).wait()])
    return metadata


@final
class _Planner(DefaultSavePlanner):
    """Plans to write pieces, and in the first process what each process has the whole of.

    Args:
        arrays: the arrays by path.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any] | ShardedArray]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._arrays = arrays
        self._pieces: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([item for path, array in self._arrays.items() for item in self._items(path, array)])
        return self.plan

    def _items(self, path: str, array: NDArray[Any] | ShardedArray) -> Iterator[WriteItem]:
        if isinstance(array, ShardedArray):
            pieces: tuple[Piece, ...] = array.held
        else:
            pieces = (Piece((0,) * array.ndim, array),) if self.is_coordinator else ()
        properties = TensorProperties(dtype=getattr(torch, array.dtype.name))
        for piece in pieces:
            self._pieces[path, piece.offsets] = piece.array
            offsets, sizes = torch.Size(piece.offsets), torch.Size(piece.array.shape)
            data = TensorWriteData(ChunkStorageMetadata(offsets, sizes), properties, torch.Size(array.shape))
            yield WriteItem(MetadataIndex(path, offsets), WriteItemType.SHARD, tensor_data=data)

    def lookup_object(self, index: MetadataIndex) -> torch.Tensor:
        return tensor_of(self._pieces[index.fqn, tuple(index.offset or ())])


def _places(path: str, written: Metadata) -> Iterator[list[Any]]:
    """Yield each part of a tensor: where it begins, its shape, its file, where in that it begins, and its bytes."""
    stored: Any = written.storage_data
    chunks: Any = written.state_dict_metadata[path]
    for chunk in chunks.chunks:
        at = stored[MetadataIndex(path, chunk.offsets)]
        yield [list(chunk.offsets), list(chunk.sizes), at.relative_path, at.offset, at.length]


def read(directory: Path, path: str, places: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a whole array, put together of its parts.

    Args:
        directory: where they are, verified.
        path: the array's.
        places: what `write` returned of it.
        dtype: its dtype.
        shape: its shape.

    Raises:
        CorruptCheckpoint: if the parts do not make the whole of it.
    """
    parts = [(tuple(offsets), tuple(sizes), (name, start, length)) for offsets, sizes, name, start, length in places]
    if sum(math.prod(sizes) for _, sizes, _ in parts) != math.prod(shape):
        raise CorruptCheckpoint(f"`{directory}` is damaged: the parts of `{path}` do not make the whole of it")
    if len(parts) == 1 and parts[0][1] == shape:
        return _part(directory, *parts[0][2], dtype, shape)
    whole = np.empty(shape, dtype)
    for offsets, sizes, at in parts:
        places_in = tuple(slice(start, start + size) for start, size in zip(offsets, sizes, strict=True))
        whole[places_in] = _part(directory, *at, dtype, sizes)
    return whole


def _part(
    directory: Path, name: str, offset: int, length: int, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Return one part, whose file was verified, and which is a tensor or nothing."""
    if Path(name).name != name:
        raise CorruptCheckpoint(f"`{directory}` is damaged: a part of it is said to be in `{name}`")
    with (directory / name).open("rb") as file:
        file.seek(offset)
        tensor = torch.load(io.BytesIO(file.read(length)), map_location="cpu", weights_only=True)
    array = array_of(tensor)
    if array.shape != shape or array.dtype != dtype:
        raise CorruptCheckpoint(f"`{directory / name}` is damaged: a part of it is {array.dtype}{list(array.shape)}")
    return array
