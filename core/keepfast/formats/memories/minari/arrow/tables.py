"""The columns of an episode's table, of an Arrow or a Parquet file that may be anybody's."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from keepfast.errors import Unreadable, shown
from keepfast.formats.files.sealed import Damage
from keepfast.formats.memories.foreign_parquet import check_size
from keepfast.formats.memories.parquet_footer import groups_of

_MAGIC, _BEGINNING = b"ARROW1", 8
"""With what an Arrow file begins and ends, and how long that is at the beginning, filled up."""

_END = struct.Struct("<i6s")
"""How it ends: how long the footer before it is."""

_HEADER, _COMPRESSION = 2, 3
"""The numbers of fields in Arrow's ``Message.fbs``: of a message what it is about, of that how it is compressed."""


def columns_of(file: BinaryIO, kind: str, names: Sequence[str]) -> dict[str, Any]:
    """Return columns of a table as arrays of Arrow, checked to lie within it.

    Args:
        file: the file.
        kind: ``arrow`` or ``parquet``.
        names: the columns that are wanted; no other is read.

    Raises:
        Damage: if it is no such file, or a column is missing.
        Unreadable: if it would take more memory than it may, or has what Keepfast does not read.
    """
    read = _batches_of_parquet if kind == "parquet" else _batches_of_arrow
    batches = read(file, names)
    for batch in batches:
        batch.validate(full=True)
    return {name: pa.concat_arrays([batch.column(name) for batch in batches]) for name in names}


def _require(schema: Any, names: Sequence[str]) -> None:
    for name in names:
        if schema.names.count(name) != 1:
            raise Damage(f"column `{name}`", "is missing" if name not in schema.names else "is there twice")
        _require_plain(name, schema.field(name).type)


def _require_plain(name: str, kind: Any) -> None:
    """Check that a column is of structures, lists, numbers, images or texts, before anything of it is read."""
    if pa.types.is_struct(kind):
        if not kind.num_fields:
            raise Unreadable(f"the column `{shown(name)}` has no parts")
        for field in kind:
            _require_plain(f"{name}.{field.name}", field.type)
        return
    number = kind.value_type if pa.types.is_fixed_size_list(kind) and kind.list_size else kind
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        raise Unreadable(f"the column `{shown(name)}` holds texts, which a memory has no tensors for")
    if pa.types.is_binary(kind) or pa.types.is_integer(number) or pa.types.is_floating(number):
        return
    if not pa.types.is_boolean(number):
        raise Unreadable(f"the column `{shown(name)}` is of {shown(str(kind))}, which a memory has no tensors for")


def _batches_of_parquet(file: BinaryIO, names: Sequence[str]) -> list[Any]:
    groups = groups_of(file)
    table = pq.ParquetFile(file)
    check_size(table, groups)
    _require(table.schema_arrow, names)
    return list(table.iter_batches(columns=list(names), use_threads=False)) or [_nothing(table.schema_arrow)]


def _batches_of_arrow(file: BinaryIO, names: Sequence[str]) -> list[Any]:
    """Return the batches of an Arrow file, which are views of what was read."""
    content = file.read()
    if not content.startswith(_MAGIC) or not content.endswith(_MAGIC):
        raise Damage("file", "does not begin and end as Arrow's do")
    source = pa.BufferReader(pa.py_buffer(content).slice(_BEGINNING))
    messages = pa.ipc.MessageReader.open_stream(source)
    if (first := messages.read_next_message()).type != "schema":  # Arrow ends the process at another
        raise Damage("schema", "is missing")
    _require(schema := pa.ipc.read_schema(first), names)
    batches, nbytes = list[Any](), 0
    for message in messages:
        if message.type != "record batch" or _is_compressed(memoryview(message.metadata)):
            raise Unreadable("its values are compressed or in a dictionary, as Minari writes none")
        batches.append(pa.ipc.read_record_batch(message, schema).select(list(names)))
        nbytes += batches[-1].nbytes
        if nbytes > len(content):
            raise Damage("columns", "share their values: together they are larger than the file")
    footer = len(content) - _BEGINNING - source.tell() - _END.size
    told, _ = _END.unpack(content[-_END.size :])
    if told != footer or pa.ipc.open_file(pa.py_buffer(content)).num_record_batches != len(batches):
        raise Damage("footer", "tells of other values than are there")
    return batches or [_nothing(schema)]


def _nothing(schema: Any) -> Any:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _is_compressed(metadata: memoryview) -> bool:
    """Say whether the message of a batch tells of a compression; Arrow makes the room that each value asks for then."""
    (start,) = struct.unpack_from("<I", metadata)
    header = _field(metadata, start, _HEADER)
    if not header:
        raise Damage("message", "tells of no batch")
    (offset,) = struct.unpack_from("<I", metadata, header)
    return bool(_field(metadata, header + offset, _COMPRESSION))


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Return where a field of a table of a flatbuffer is, or 0."""
    places = table - struct.unpack_from("<i", metadata, table)[0]
    if places < 0:
        raise Damage("message", "has a table before its beginning")
    (size,) = struct.unpack_from("<H", metadata, places)
    if 4 + 2 * number + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, places + 4 + 2 * number)
    return table + offset if offset else 0
