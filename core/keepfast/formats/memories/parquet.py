"""Memories as Parquet: a row for each sample, for polars, pandas, duckdb and whoever else reads tables.

Columns: ``timestep``, from 0 for the oldest sample of an environment on; ``environment``; and one for each tensor, a
fixed-shape list where a sample has several elements. Between the columns and the footer, where no reader looks, stand a
mark, the document of `keepfast.formats.memories.header`, its length, the mark again, and the CRC-32 of the whole file,
taken with zeros in its place. In an older layout the footer's keys ``keepfast`` and ``keepfast.crc32`` held the two.

What another tool wrote anew has nothing in that gap. It is that tool's then, as a file that never was ours.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from keepfast._system.disk.checksum import crc32
from keepfast._system.memory.spacious import spacious_tensors
from keepfast.codec import dtype_of
from keepfast.errors import CorruptMemory, InvalidValue, Unreadable
from keepfast.formats.files.sealed import Damage, verified
from keepfast.formats.memories.foreign_parquet import PLACES, damage_of_arrow, foreign_tensors
from keepfast.formats.memories.header import (
    check_header,
    flat_tensors,
    header_from,
    header_text,
    plain_dtype,
    ring_of,
    snapshot_from,
)
from keepfast.formats.memories.parquet_footer import Group, groups_of
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot

_HEADER, _DIGEST = b"keepfast", b"keepfast.crc32"
_MARK = b"keepfast digest "
_NO_DIGEST = b"0" * 8
_ENOUGH = 2
"""How many words of ours tell a footer of the older layout, of the three that are there."""

_GAP = b"keepfast memory\n"
_GAP_END = struct.Struct("<Q16s8s")
_FOOTER = struct.Struct("<I4s")
"""How a file ends: how long the footer is before it, and four letters."""

_GROUP = 1 << 24
"""How many bytes of tensors a row group holds, about: what is in memory at a time."""

_COMPRESSION = 1 << 15
"""How many times smaller than its values a column can be: zstd makes four bytes of a block of 2**17 zeros."""

_CHUNK = 1 << 20


@final
class ParquetExporter(MemoryExporter):
    """Writes Parquet, compressed with zstd; dtypes that Arrow lacks are stored as unsigned integers of their bits."""

    extension: ClassVar[str] = ".parquet"

    def write(self, snapshot: MemorySnapshot, file: BinaryIO) -> None:  # noqa: D102  (the interface's)
        schema = _schema(snapshot)
        names = [field.name for field in schema]
        sink = pa.PythonFile(_Unclosed(file), mode="w")
        options = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": _split(schema)}
        with pq.ParquetWriter(sink, schema, write_page_checksum=True, **options) as writer:
            for arrays in _groups(snapshot, schema):
                writer.write_table(pa.Table.from_arrays(arrays, names), row_group_size=1 << 62)
            place = _write_document(file, header_text(snapshot))
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)
        file.seek(0, os.SEEK_END)

    def read(self, path: Path) -> MemorySnapshot:  # noqa: D102  (the interface's)
        with verified(path, CorruptMemory) as file:
            text = _document(file)
            groups = groups_of(file)
            with damage_of_arrow():
                table = pq.ParquetFile(file, page_checksum_verification=text is None)
                if text is None:
                    _require_no_mark(file, groups, table.metadata.serialized_size)
                    text = _document_of_older_layout(file, table.metadata.metadata or {})
                if text is None:
                    return snapshot_from(foreign_tensors(table, groups), {}, path)
                header = header_from(text)
                check_header(header, path)
                return snapshot_from(_tensors(table, groups, header), header, path)


def _write_document(file: BinaryIO, document: bytes) -> int:
    """Write what stands before the footer, and return where in the file its digest is."""
    file.write(_GAP + document + _GAP_END.pack(len(document), _GAP, _NO_DIGEST))
    return file.tell() - len(_NO_DIGEST)


def _document(file: BinaryIO) -> bytes | None:
    """Return the document of a verified file; None for one that has no mark of ours before its footer.

    Raises:
        Damage: if it has one and is not as it was written.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _FOOTER.size))
    length, magic = _FOOTER.unpack(file.read().rjust(_FOOTER.size, b"\0"))
    footer = end - _FOOTER.size - length
    if magic == b"PARE":
        raise Unreadable("its footer is encrypted")
    if magic != b"PAR1" or footer < _GAP_END.size:
        return None
    file.seek(footer - _GAP_END.size)
    length, mark, digest = _GAP_END.unpack(file.read(_GAP_END.size))
    start = footer - _GAP_END.size - length
    if mark != _GAP:
        return None
    if start < len(_GAP) or digest != _digest(file, footer - len(_NO_DIGEST)):
        raise Damage("content", "is not as it was written (its CRC-32 says so)")
    file.seek(start)
    return file.read(length)


def _require_no_mark(file: BinaryIO, groups: Sequence[Group], footer: int) -> None:
    """Check that no mark of ours stands between columns and footer, as it does where the one behind it is damaged."""
    start = max((each.start + each.stored for group in groups for each in group.columns), default=0)
    end = file.seek(0, os.SEEK_END) - _FOOTER.size - footer
    if start < end:
        file.seek(start)
        if _GAP in file.read(end - start):
            raise Damage("document", "is not as it was written")


def _document_of_older_layout(file: BinaryIO, told: Mapping[bytes, bytes]) -> bytes | None:
    """Return the document in a footer whose file is verified; None for a footer of others, whatever word it has."""
    if sum((_HEADER in told, _DIGEST in told, any(value.startswith(_MARK) for value in told.values()))) < _ENOUGH:
        return None
    place = _place_of_digest(file)
    file.seek(max(place, 0))
    if _HEADER not in told or place < 0 or file.read(len(_NO_DIGEST)) != _digest(file, place):
        raise Damage("content", "is not as it was written (its CRC-32 says so)")
    return told[_HEADER]


@final
class _Unclosed(io.RawIOBase):
    """Stands in for a file that Arrow would close when it is done."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def writable(self) -> bool:
        return True


def _schema(snapshot: MemorySnapshot) -> Any:
    fields = [pa.field(name, kind) for name, kind in zip(PLACES, (pa.int64(), pa.int32()), strict=True)]
    for name, tensor in _with_numbers(snapshot.tensors).items():
        if tensor.dtype.kind == "c":
            raise InvalidValue(f"Parquet has no {tensor.dtype}, the dtype of `{name}`; choose another format")
        value, size = pa.from_numpy_dtype(plain_dtype(tensor.dtype)), tensor.shape[2:]
        kind = value if size == (1,) else pa.fixed_shape_tensor(value, size)
        fields.append(pa.field(_title(name, snapshot.tensors), kind))
    return pa.schema(fields)


def _with_numbers(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors whose samples have a number at all; Parquet has no column for the others."""
    return {name: tensor for name, tensor in tensors.items() if math.prod(tensor.shape[1:])}


def _title(name: str, taken: Collection[str]) -> str:
    """Return the name of a tensor's column, which is not that of another column; readers go by their order."""
    while name in PLACES:
        name += "_"
        while name in taken:
            name += "_"
    return name


def _split(schema: Any) -> list[str]:
    """Return the columns, as Parquet names them, whose bytes are stored by their significance.

    All numbers are, but floats of 16 bits: duckdb reads no such column of those.
    """
    split = []
    for field in schema:
        tensor = isinstance(field.type, pa.FixedShapeTensorType)
        value = field.type.value_type if tensor else field.type
        if not pa.types.is_boolean(value) and not pa.types.is_float16(value):
            split.append(f"{field.name}.list.element" if tensor else field.name)
    return split


def _groups(snapshot: MemorySnapshot, schema: Any) -> Iterator[list[Any]]:
    """Yield the columns of some rows at a time, in the order of their places."""
    ring, num_envs = snapshot.ring, max(snapshot.num_envs, 1)
    count = len(ring)
    timesteps = np.arange(ring.memory_size * num_envs).reshape(-1, num_envs) // num_envs
    if ring.filled:
        np.put_along_axis(timesteps, ring.order(), timesteps.copy(), axis=0)
    flat = list(_with_numbers(flat_tensors(snapshot)).values())
    rows = max(1, _GROUP // max(1, sum(tensor[:1].nbytes for tensor in flat)))
    for start in range(0, count, rows):
        part = slice(start, min(start + rows, count))
        environments = (np.arange(part.start, part.stop) % num_envs).astype(np.int32)
        columns = [pa.array(timesteps.reshape(-1)[part]), pa.array(environments)]
        kinds = schema.types[len(PLACES) :]
        columns += [_column(tensor[part], kind) for tensor, kind in zip(flat, kinds, strict=True)]
        yield columns


def _column(values: NDArray[Any], kind: Any) -> Any:
    items = pa.array(np.ascontiguousarray(values).reshape(-1).view(plain_dtype(values.dtype)))
    if not isinstance(kind, pa.FixedShapeTensorType):
        return items
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(items, values.shape[1]))


def _tensors(table: Any, groups: Sequence[Group], header: dict[str, Any]) -> dict[str, NDArray[Any]]:
    ring = ring_of(header)
    described = {name: (dtype_of(found["dtype"]), tuple(found["size"])) for name, found in header["tensors"].items()}
    _check_rows(groups, len(ring), sum(math.prod(size) * dtype.itemsize for dtype, size in described.values()))
    layout = {name: ((ring.capacity, math.prod(size)), dtype) for name, (dtype, size) in described.items()}
    flat = spacious_tensors(layout, len(ring))
    start = 0
    for group in range(table.num_row_groups):
        rows = table.read_row_group(group)
        for tensor, column in zip(_with_numbers(flat).values(), rows.columns[len(PLACES) :], strict=True):
            items = column.combine_chunks()
            if isinstance(items, pa.ExtensionArray):
                items = items.storage.flatten()
            values = items.to_numpy(zero_copy_only=False).view(tensor.dtype)
            tensor[start : start + rows.num_rows] = values.reshape(rows.num_rows, tensor.shape[1])
        start += rows.num_rows
    return {name: flat[name].reshape(ring.memory_size, ring.num_envs, *size) for name, (_, size) in described.items()}


def _check_rows(groups: Sequence[Group], samples: int, nbytes: int) -> None:
    """Check, before there is room made for them, that a table has so many rows of so many bytes.

    Raises:
        Damage: if it has not, or such rows cannot be in a file of its size.
    """
    if (rows := sum(group.rows for group in groups)) != samples:
        raise Damage("table", f"has {rows} rows where {samples} belong")
    stored = sum(each.stored for group in groups for each in group.columns)
    if samples * nbytes > _COMPRESSION * stored:
        raise Damage("table", f"has {stored} bytes, which hold no {samples} rows of {nbytes}")
    if any(group.nbytes > 16 * _GROUP and group.rows > 1 for group in groups):
        raise Damage("table", f"has groups of rows that are larger than the {_GROUP} bytes they are written in")


def _place_of_digest(file: BinaryIO) -> int:
    """Return where in the file the digest stands, or -1."""
    size = file.seek(0, os.SEEK_END)
    window = 1 << 16
    while True:
        file.seek(max(0, size - window))
        found = file.read().rfind(_MARK)
        if found >= 0:
            return max(0, size - window) + found + len(_MARK)
        if window >= size:
            return -1
        window *= 16


def _digest(file: BinaryIO, place: int) -> bytes:
    """Return the CRC-32 of a file with zeros in the place of its digest, as text."""
    file.seek(0)
    digest, position = 0, 0
    while chunk := file.read(min(_CHUNK, place - position) if position < place else _CHUNK):
        if position == place:
            chunk = _NO_DIGEST + chunk[len(_NO_DIGEST) :]
        digest = crc32(chunk, digest)
        position += len(chunk)
    return b"%08x" % digest
