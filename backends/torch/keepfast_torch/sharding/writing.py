"""Tensors as ``torch.distributed.checkpoint`` writes them, and read back without the pickle that lies beside them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType

from keepfast import CorruptCheckpoint, ShardedArray, WriteFailed, Written
from keepfast._system.disk.checksum import Summed, SummedFile
from keepfast._system.disk.directories import sync_file
from keepfast.errors import shown
from keepfast.formats.files.torch_archive import read_within
from keepfast_torch.arrays import DTYPES, tensor_of
from keepfast_torch.sharding.tensors import Piece

NAMES = frozenset(str(dtype).removeprefix("torch.") for dtype in DTYPES)
"""The dtypes that PyTorch has, as NumPy calls them."""

_Arrays = Mapping[str, NDArray[Any] | ShardedArray]
_Outline = tuple[np.dtype[Any], tuple[int, ...]]


def write(arrays: _Arrays, directory: Path, rank: int) -> Written:
    """Write what this process has, as ``torch.distributed.checkpoint`` does, and asks no other process.

    Each writes a file of its own, whatever the others have, so that all of their plans need be known but for the
    metadata, which `finish` writes: ``save`` would meet twice before it and twice behind it.

    Args:
        arrays: the arrays by path.
        directory: where to.
        rank: this process's number.

    Raises:
        WriteFailed: if it could not.
    """
    writer, planner = FileSystemWriter(directory, sync_files=False), _Planner(arrays)
    writer.fs = files = _Files()
    planner.set_up_planner({}, writer.storage_meta(), is_coordinator=rank == 0)
    with _naming(directory):
        plan = planner.create_local_plan()
        named = writer.prepare_global_plan([SavePlan([]) for _ in range(rank)] + [plan])[rank]  # by its place there
        results = writer.write_data(planner.finish_plan(named), planner).wait()
    return Written((plan, results), files.digests)


def finish(directory: Path, told: Sequence[Any]) -> dict[str, list[Any]]:
    """Write what tells PyTorch where it all is, and return it.

    Args:
        directory: where the processes wrote.
        told: of each, what `write` told.

    Raises:
        WriteFailed: if it could not.
    """
    writer, planner = FileSystemWriter(directory, sync_files=False), _Planner({})
    planner.set_up_planner({}, writer.storage_meta(), is_coordinator=True)
    with _naming(directory):
        _, metadata = planner.create_global_plan([plan for plan, _ in told])
        writer.finish(metadata, [results for _, results in told])
    return {path: list(_places(path, metadata)) for path in metadata.state_dict_metadata}


@contextlib.contextmanager
def _naming(directory: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise WriteFailed(f"torch.distributed.checkpoint could not write `{directory}`: {error}") from error


@final
class _Files(FileSystem):
    """Writes the files, durable when they are closed, and knows the digest of each.

    Attributes:
        digests: the size and the CRC-32 of each by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.digests: dict[str, list[Any]] = {}

    @contextlib.contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
        with super().create_stream(path, mode) as file:
            yield (stream := _Stream(file))
            stream.flush()
            sync_file(file.fileno())
            if (summed := stream.summed()) is not None:
                self.digests[Path(path).name] = [stream.tell(), f"{summed.crc32:08x}"]


@final
class _Stream:
    """What PyTorch needs of a file, whose bytes are summed on their way."""

    def __init__(self, file: Any) -> None:
        self._file, self._out = file, SummedFile(file)

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._out.write(view)
        return view.nbytes

    def tell(self) -> int:
        return self._out.position

    def flush(self) -> None:
        self._out.flush()
        self._file.flush()

    def summed(self) -> Summed | None:
        return self._out.after(b"")

    def close(self) -> None:
        """Leave that to whoever opened it, once it is durable."""


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


@final
@dataclass(frozen=True)
class _Part:
    """Where a part of a tensor is: in the tensor, and among the files."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    name: str
    start: int
    length: int

    @property
    def box(self) -> tuple[slice, ...]:
        return tuple(slice(start, start + size) for start, size in zip(self.offsets, self.sizes, strict=True))

    def within(self, shape: tuple[int, ...]) -> bool:
        """Say whether it lies within an array of a shape."""
        if not len(self.offsets) == len(self.sizes) == len(shape):
            return False
        if any(type(each) is not int for each in (*self.offsets, *self.sizes)):
            return False
        return all(0 <= box.start < box.stop <= side for box, side in zip(self.box, shape, strict=True))


def read(directory: Path, told: Any, outlines: Mapping[str, _Outline]) -> dict[str, NDArray[Any]]:
    """Return whole arrays, put together of their parts; what the seal says of those is believed of no one.

    Args:
        directory: where they are, every file in it verified.
        told: what `finish` returned.
        outlines: the dtype and the shape of each array by its path.

    Raises:
        CorruptCheckpoint: if the parts do not make the whole, or two of them are the same.
    """
    parts = {path: [_Part(tuple(each[0]), tuple(each[1]), *each[2:]) for each in told[path]] for path in outlines}
    _check_places(directory, [part for each in parts.values() for part in each])
    for path, (dtype, shape) in outlines.items():
        if not _make_the_whole(parts[path], dtype, shape):
            raise CorruptCheckpoint(f"`{directory}` is damaged: the parts of `{path}` do not make the whole of it")
    return {path: _whole(directory, parts[path], *outline) for path, outline in outlines.items()}


def _check_places(directory: Path, parts: Sequence[_Part]) -> None:
    """Check that each part lies in a file of tensors, and in no other part, so that all take what the files have."""
    sizes = {each.name: each.stat().st_size for each in os.scandir(directory) if each.name.endswith(".distcp")}
    ends: dict[str, int] = {}
    for part in parts:
        if part.name not in sizes or type(part.start) is not int or type(part.length) is not int:
            raise CorruptCheckpoint(
                f"`{directory}` is damaged: a part of it is said to be in `{shown(str(part.name))}`"
            )
    for part in sorted(parts, key=lambda part: part.start):
        if part.length < 0 or not ends.get(part.name, 0) <= part.start <= sizes[part.name] - part.length:
            raise CorruptCheckpoint(f"`{directory / part.name}` is damaged: parts of it overlap, or end behind it")
        ends[part.name] = part.start + part.length


def _make_the_whole(parts: Sequence[_Part], dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Say whether parts, none of which has more numbers than bytes for them, cover an array, each its own place."""
    if not all(part.within(shape) and math.prod(part.sizes) * dtype.itemsize <= part.length for part in parts):
        return False
    if sum(math.prod(part.sizes) for part in parts) != math.prod(shape):
        return False
    covered = np.zeros(shape if len(parts) > 1 else (), np.bool_)
    for part in parts if len(parts) > 1 else ():
        if covered[part.box].any():
            return False
        covered[part.box] = True
    return True


def _whole(directory: Path, parts: Sequence[_Part], dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if len(parts) == 1:
        return _array(directory, parts[0], dtype)
    whole = np.empty(shape, dtype)
    for part in parts:
        whole[part.box] = _array(directory, part, dtype)
    return whole


def _array(directory: Path, part: _Part, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return one part, whose file was verified, and which is a tensor or nothing."""
    array = read_within(path := directory / part.name, part.start, part.length)
    if not isinstance(array, np.ndarray) or array.shape != part.sizes or array.dtype != dtype:
        raise CorruptCheckpoint(f"`{path}` is damaged: a part of it is no {dtype}{list(part.sizes)}")
    return array
