"""Memories as NumPy archives: `numpy.load` gives each tensor by its name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from keepfast import codec
from keepfast.errors import CorruptMemory, Unreadable
from keepfast.formats.files.sealed import Damage, verified, warn_of_anew
from keepfast.formats.files.sealed_zip import SealedZipReader, SealedZipWriter
from keepfast.formats.memories.header import header_from, header_text, plain_dtype, snapshot_from
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot

_VERSIONS = ((1, 0), (2, 0), (3, 0))
"""What the headers of arrays are written in; that of the last is text beyond Latin, for the names of fields."""


@final
class NpzExporter(MemoryExporter):
    """Writes an uncompressed ``.npz``: name -> array of (memory_size, num_envs, *size), and no other name.

    What else is known lies where only Keepfast looks, under the archive's seal; see `SealedZipWriter.finish`.
    NumPy's format has no name for bfloat16 and float8, so `numpy.load` shows those as integers of the same bits.
    """

    extension: ClassVar[str] = ".npz"

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:  # noqa: D102  (the interface's)
        writer = SealedZipWriter(file)
        writer.write((f"{name}.npy", _npy(tensor)) for name, tensor in snapshot.tensors.items())
        writer.finish(header_text(snapshot))

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        with verified(path, CorruptMemory, mapped=True) as file:
            return _read(SealedZipReader(file), path)


def _npy(tensor: NDArray[Any]) -> tuple[memoryview, memoryview]:
    """Return the header and the bytes of an array, as `numpy.save` writes them."""
    contiguous = np.ascontiguousarray(tensor).view(plain_dtype(tensor.dtype))
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, npy.header_data_from_array_1_0(contiguous))
    return buffer.getbuffer(), codec.array_bytes(contiguous)


def _read(archive: SealedZipReader, path: Path) -> MemorySnapshot:
    document = archive.document()
    if archive.was_sealed:
        warn_of_anew(path)
    header = {} if document is None else header_from(document)
    dtypes = {name: described["dtype"] for name, described in header.get("tensors", {}).items()}
    tensors = {}
    for record in archive.names:
        name = record.removesuffix(".npy")
        tensors[name] = _array(archive.read(record), dtypes.get(name), record)
    return snapshot_from(tensors, header, path)


def _header(beginning: BinaryIO, version: tuple[int, int]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        return read_header(beginning)
    except MemoryError as error:  # of Python's parser, at brackets and signs in each other without end
        raise ValueError("its header is in itself without end") from error


def _array(data: NDArray[np.uint8], dtype: str | None, record: str) -> NDArray[Any]:
    beginning = io.BytesIO(data[:65536].tobytes())
    try:
        version = npy.read_magic(beginning)
        if version not in _VERSIONS:
            raise ValueError(f"its header is of the version {version}, which NumPy has not")
        shape, fortran, descr = _header(beginning, version)
        if descr.hasobject:
            raise Damage(record, "is no array of numbers but a pickle of objects, and loading runs no code")
        array = data[beginning.tell() :].view(descr if dtype is None else codec.dtype_of(dtype))
        return codec.shaped(array, shape[::-1]).T if fortran else codec.shaped(array, shape)
    except Unreadable:
        raise
    except ValueError as error:
        raise Damage(record, f"is no array: {error}") from error
