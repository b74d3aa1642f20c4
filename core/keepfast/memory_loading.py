"""What a snapshot gives a live memory: tensors of the memory's names, sizes and dtypes, or a list of what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.codec import dtype_of
from keepfast.errors import InvalidValue, LoadMismatch
from keepfast.memory import MemorySnapshot
from keepfast.memory_tensors import TensorSpec, tensor_name

_CHUNK_BYTES = 1 << 24
"""How much of a tensor is converted and compared at once."""

DtypeName = Callable[[str], str]
"""Returns the name of the dtype that a framework keeps values of another as; raises InvalidValue if it keeps none."""


def matched(
    snapshot: MemorySnapshot, specs: Mapping[str, TensorSpec], dtype_name: DtypeName, keeps_wide: str
) -> tuple[dict[str, TensorSpec], dict[str, NDArray[Any]]]:
    """Return what a memory's tensors are once they hold a snapshot's, and their values.

    Args:
        snapshot: what to load.
        specs: the memory's tensors; where there are none, it takes all of the snapshot's.
        dtype_name: tells as what the framework keeps a dtype.
        keeps_wide: how to have the framework keep what it narrows.

    Raises:
        LoadMismatch: if they differ in names, sizes or dtypes; lists every difference. A dtype that the framework
            narrows is no difference as long as every value stays the same.
    """
    problems = [f"`{name}` is missing in the file" for name in specs if name not in snapshot.tensors]
    found: dict[str, TensorSpec] = {}
    values: dict[str, NDArray[Any]] = {}
    for name, tensor in snapshot.tensors.items():
        try:
            given = _described(name, tensor, snapshot.metadata)
            found[name] = _own(given, specs) if specs else replace(given, dtype=_kept_as(given, dtype_name))
            values[name] = _converted(tensor, found[name], _kept_as(given, dtype_name), keeps_wide)
        except InvalidValue as error:
            problems.append(str(error))
    if problems:
        raise LoadMismatch("the memory is unchanged, for the file does not fit it:\n  " + "\n  ".join(problems))
    return found, values


def _described(name: str, tensor: NDArray[Any], metadata: Mapping[str, Any]) -> TensorSpec:
    """Return what a tensor of a snapshot is."""
    size = tuple(tensor.shape[2:])
    keep = _table(metadata, "keep_dimensions").get(name, len(size) != 1)
    space = _table(metadata, "spaces").get(name, "")
    return TensorSpec(tensor_name(name), size, str(tensor.dtype), bool(keep), str(space))


def _table(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = metadata.get(key)
    return found if isinstance(found, Mapping) else {}  # the metadata of a file of others may be anything


def _kept_as(given: TensorSpec, dtype_name: DtypeName) -> str:
    try:
        return dtype_name(given.dtype)
    except InvalidValue as error:
        raise InvalidValue(f"`{given.name}` has the dtype {given.dtype} in the file: {error}") from error


def _own(given: TensorSpec, specs: Mapping[str, TensorSpec]) -> TensorSpec:
    """Return the memory's own tensor, with the file's space where the memory knows none."""
    if given.name not in specs:
        raise InvalidValue(f"`{given.name}` is in the file, but the memory has no such tensor")
    own = specs[given.name]
    if given.size != own.size:
        raise InvalidValue(f"`{own.name}` has the size {given.size} in the file and {own.size} in the memory")
    return replace(own, space=own.space or given.space)


def _converted(tensor: NDArray[Any], spec: TensorSpec, kept_as: str, keeps_wide: str) -> NDArray[Any]:
    """Return a tensor with the dtype of the memory's, itself where it has it."""
    given = str(tensor.dtype)
    if given == spec.dtype:
        return tensor
    if kept_as != spec.dtype:
        raise InvalidValue(f"`{spec.name}` has the dtype {given} in the file and {spec.dtype} in the memory")
    narrowed = _exactly(tensor, dtype_of(spec.dtype))
    if narrowed is None:
        raise InvalidValue(
            f"`{spec.name}` has the dtype {given} in the file, with values that {spec.dtype}, which it would be kept "
            f"as, does not have; {keeps_wide}"
        )
    return narrowed


def _exactly(tensor: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return a tensor with another dtype, or None if that changes a value."""
    result = np.empty(tensor.shape, dtype)
    rows = max(1, _CHUNK_BYTES * len(tensor) // max(1, tensor.nbytes))
    for start in range(0, len(tensor), rows):
        part = tensor[start : start + rows]
        with np.errstate(all="ignore"):  # what overflows is found by comparing
            result[start : start + rows] = part
            back = result[start : start + rows].astype(tensor.dtype)
        if not np.array_equal(back, part, equal_nan=tensor.dtype.kind in "fc"):
            return None
    return result
