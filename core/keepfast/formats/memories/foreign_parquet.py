"""Another tool's Parquet as tensors: columns of numbers, truth values, and lists of them that are all as long.

A row is a sample; missing numbers are NaN. Where the columns ``timestep`` and ``environment`` tell of each timestep of
each environment once, as ours do, samples lie by them; else they are one environment's, and all columns are tensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from keepfast.errors import KeepfastError, Unreadable, shown
from keepfast.formats.files.sealed import Damage
from keepfast.formats.memories.parquet_footer import Group

PLACES = ("timestep", "environment")
"""The columns that tell where a sample lies."""

_ROOM, _TIMES = 1 << 26, 1100
"""How many bytes the values of a file may take: so many, and so many times what is stored of them."""

_MOST_COLUMNS = 1 << 14
_AT_ONCE = 256
"""How many columns are read together: while it is read, each takes Arrow thirteen kilobytes."""


@contextlib.contextmanager
def damage_of_arrow() -> Iterator[None]:
    """Make damage of the errors that Arrow has for files that are none, which are no errors of the system's."""
    try:
        yield
    except KeepfastError:
        raise
    except pa.ArrowNotImplementedError as error:
        raise Unreadable(f"Arrow has no way to read it ({shown(str(error))})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise Damage("table", f"cannot be read ({error})") from error


def foreign_tensors(table: Any, groups: Sequence[Group]) -> dict[str, NDArray[Any]]:
    """Return the tensors of an open Parquet file, of shape (rows, environments, *size).

    Args:
        table: the file, as Arrow has it.
        groups: what its footer tells of its groups of rows.

    Raises:
        Unreadable: if there are columns of something else than numbers, or it would take more memory than it may.
    """
    check_size(table, groups)
    names = table.schema_arrow.names
    if len(set(names)) < len(names) or len(names) > _MOST_COLUMNS:
        raise Unreadable("it has two columns of one name, or more columns than a memory may have")
    for field in table.schema_arrow:
        _check_kind(field.name, _storage(field.type))
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for group in range(table.num_row_groups):
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            rows = table.read_row_group(group, columns=some if len(names) > _AT_ONCE else None)
            for name in some:
                column = rows.column(rows.schema.get_field_index(name))  # another may begin with its name and a dot
                parts[name] += [_values(name, chunk) for chunk in column.chunks]
    return _placed({name: _joined(name, found) for name, found in parts.items() if found})


def check_size(table: Any, groups: Sequence[Group]) -> None:
    """Check that the values of an open file take no more memory than what is stored of them may."""
    stored = sum(each.stored for group in groups for each in group.columns)
    told = max(sum(group.nbytes for group in groups), 8 * table.metadata.num_rows * len(table.schema_arrow))
    if told > _ROOM + _TIMES * stored:
        raise Unreadable(f"its columns would take {told:,} bytes of memory, which {stored:,} stored ones may not")


def _storage(kind: Any) -> Any:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: Any) -> bool:
    return any(check(kind) for check in (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list))


def _check_kind(name: str, kind: Any) -> None:
    value = kind.value_type if _is_list(kind) else kind
    if not (pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)):
        raise Unreadable(f"the column `{shown(name)}` is of {shown(str(kind))}, and a memory has numbers")


def _values(name: str, chunk: Any) -> NDArray[Any]:
    """Return the values of a part of a column, of shape (rows, *size)."""
    size = tuple(chunk.type.shape) if isinstance(chunk.type, pa.FixedShapeTensorType) else None
    items, rows = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk, len(chunk)
    if _is_list(items.type):
        lengths = set(items.value_lengths().unique().to_pylist()) if rows else {0}
        if len(lengths) > 1 or None in lengths or items.null_count:
            raise Unreadable(f"the column `{shown(name)}` has lists of different lengths, which are no tensor")
        (length,) = lengths
        size, items = size or (length,), items.flatten()
    size = (1,) if size is None else size
    return _numbers(items).reshape(rows, *size)


def _numbers(items: Any) -> NDArray[Any]:
    """Return numbers and truth values as NumPy has them; with missing ones among them, floats."""
    if items.null_count and not pa.types.is_floating(items.type):
        items = items.cast(pa.int8() if pa.types.is_boolean(items.type) else items.type).cast(pa.float64(), safe=False)
    found: NDArray[Any] = items.to_numpy(zero_copy_only=False)
    return found


def _joined(name: str, parts: list[NDArray[Any]]) -> NDArray[Any]:
    if len({part.shape[1:] for part in parts if len(part)}) > 1:
        raise Unreadable(f"the column `{shown(name)}` has lists of different lengths, which are no tensor")
    return np.concatenate([part for part in parts if len(part)] or parts[:1])


def _placed(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    order = _order(columns)
    if order is None:
        return {name: values[:, None] for name, values in columns.items()}
    by_place, environments = order
    return {
        name: values[by_place].reshape(-1, environments, *values.shape[1:])
        for name, values in columns.items()
        if name not in PLACES
    }


def _order(columns: dict[str, NDArray[Any]]) -> tuple[NDArray[np.intp], int] | None:
    """Return the rows in the order of their places and how many environments there are, if each place is there once."""
    places = [columns.get(name) for name in PLACES]
    if any(each is None or each.dtype.kind not in "iu" or each.ndim != 2 or each.shape[1] != 1 for each in places):
        return None
    timesteps, environments = (each.reshape(-1) for each in places if each is not None)
    count = int(environments.max(initial=-1)) + 1
    rows = len(timesteps)
    if not 0 < count <= rows or rows % count:
        return None
    order = np.lexsort((environments, timesteps))
    told = np.stack([timesteps[order], environments[order]])
    wanted = np.stack([np.arange(rows) // count, np.arange(rows) % count])
    return (order, count) if np.array_equal(told, wanted) else None
