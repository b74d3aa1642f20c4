"""How the samples of one memory are laid out in another of a different size or number of environments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from keepfast.codec import dtype_of
from keepfast.errors import InvalidValue, LoadMismatch, as_given
from keepfast.interfaces.loading.report import Entry, LoadReport
from keepfast.interfaces.memory_exporter import GUESSED, MemorySnapshot
from keepfast.interfaces.ring import VALID
from keepfast.memories.tensors.specs import VALIDITY, TensorSpec, tensor_name
from keepfast.tree import describe

Fit = Literal["error", "newest", "oldest"]


def fitted(snapshot: MemorySnapshot, memory_size: int, num_envs: int, fit: Fit) -> MemorySnapshot:
    """Return a snapshot of the sizes asked for; the same one where it has them.

    Args:
        snapshot: what to lay out anew.
        memory_size: the number of rows of the result.
        num_envs: the number of environments of the result.
        fit: ``"error"`` to allow no difference, ``"newest"`` or ``"oldest"`` to say which samples stay where not all
            of them fit. Where the numbers of environments differ, each environment's samples stay together and in
            order, and are followed by the next one's.

    Raises:
        LoadMismatch: if the sizes differ and `fit` is ``"error"``.
        InvalidValue: if `fit` is none of the three.
    """
    checked_fit(fit)
    snapshot = _by_lines(snapshot, memory_size, num_envs)
    given, wanted = (snapshot.memory_size, snapshot.num_envs), (memory_size, num_envs)
    if given == wanted:
        return snapshot
    if fit == "error":
        raise LoadMismatch(
            f"the memory is unchanged: it has (memory_size, num_envs) = {wanted}, and the file has {given}; "
            '`fit="newest"` or `fit="oldest"` keeps what fits'
        )
    columns = _columns(snapshot, memory_size, num_envs, fit)
    return _laid_out(snapshot, columns, memory_size, num_envs)


def _by_lines(snapshot: MemorySnapshot, memory_size: int, num_envs: int) -> MemorySnapshot:
    """Return samples of a file that tells neither rows nor environments, a csv of another tool, by those of a memory.

    Its lines are taken row by row, and within a row environment by environment, as skrl writes them. Where they are
    more than fit, or do not come out even then, the snapshot is as it was, or has more rows.
    """
    lines = snapshot.memory_size * snapshot.num_envs
    rows, rest = divmod(lines, num_envs)
    if not is_guessed(snapshot) or (rest and rows >= memory_size):
        return snapshot
    room = max(rows, memory_size)

    def laid_out(tensor: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros((room, num_envs, *tensor.shape[2:]), tensor.dtype)
        result.reshape(room * num_envs, *tensor.shape[2:])[:lines] = tensor.reshape(lines, *tensor.shape[2:])
        return result

    tensors = {name: laid_out(tensor) for name, tensor in snapshot.tensors.items()}
    is_full = rows == room
    return replace(snapshot, tensors=tensors, memory_index=0 if is_full else rows, env_index=rest, filled=is_full)


def is_guessed(snapshot: MemorySnapshot) -> bool:
    """Say whether a file told neither dtypes nor environments; see `GUESSED`."""
    return bool(snapshot.metadata.get(GUESSED))


def checked_fit(fit: Fit) -> Fit:
    """Return what to do with a memory of another size.

    Raises:
        InvalidValue: if it is none of the three.
    """
    if not isinstance(fit, str) or fit not in get_args(Fit):
        raise InvalidValue(f"`fit` is {as_given(fit)}; allowed: {', '.join(get_args(Fit))}")
    return fit


def since_full(snapshot: MemorySnapshot) -> MemorySnapshot:
    """Return the samples of a snapshot that were written since the last row was completed, by themselves."""
    snapshot.require_unchanged()
    count = snapshot.memory_index * snapshot.num_envs + snapshot.env_index

    def newer(tensor: NDArray[Any]) -> NDArray[Any]:
        kept = np.zeros_like(tensor)
        flat, size = (snapshot.ring.capacity, *tensor.shape[2:]), slice(count)
        kept.reshape(flat)[size] = tensor.reshape(flat)[size]
        return kept

    tensors = {name: newer(tensor) for name, tensor in snapshot.tensors.items()}
    metadata = {**snapshot.metadata, "seams": [seam for seam in snapshot.seams if seam < count]}
    return replace(snapshot, tensors=tensors, filled=False, metadata=metadata)


def report_of(snapshot: MemorySnapshot, specs: Mapping[str, TensorSpec]) -> LoadReport:
    """Return what became of each tensor of a snapshot that a memory took."""

    def entry(name: str, tensor: NDArray[Any]) -> Entry:
        found, own = describe(tensor), f"{specs[name].dtype} {tuple(tensor.shape)}"
        return Entry("memory", name, "loaded", own, found, cast=found != own)

    return LoadReport(entries=tuple(entry(name, tensor) for name, tensor in snapshot.tensors.items()))


def of_state(
    state: Mapping[str, Any], memory_size: int, num_envs: int, host_array: Callable[[Any], NDArray[Any]]
) -> tuple[MemorySnapshot, NDArray[np.bool]]:
    """Return the samples of what `Memory.state_dict` returned, and in which environments an episode had ended.

    Args:
        state: the state.
        memory_size: the number of rows of the memory that it is for.
        num_envs: the number of its environments.
        host_array: makes NumPy arrays of the framework's.

    Raises:
        LoadMismatch: if it is no such state, or not one of a memory of these sizes.
    """
    try:
        tensors = {name: host_array(tensor) for name, tensor in state["tensors"].items()}
        position = int(state["memory_index"]), int(state["env_index"]), bool(state["filled"])
        seams = [int(place) for place in state.get("seams", ())]
        ended = np.array(host_array(state.get("after_end", np.zeros(num_envs))), bool)
    except Exception as error:
        raise LoadMismatch(f"the memory is unchanged: {as_given(state)} is no state of one") from error
    if not (0 <= position[0] < memory_size and 0 <= position[1] < num_envs):
        raise LoadMismatch(f"the memory is unchanged: row {position[0]}, environment {position[1]} is not in it")
    if ended.shape != (num_envs,):
        raise LoadMismatch(f"the memory is unchanged: `after_end` is of {ended.size} environments")
    return MemorySnapshot(tensors, *position, {"seams": seams}), ended


def fitted_state(state: Mapping[str, Any], memory_size: int, num_envs: int, fit: Fit) -> Mapping[str, Any]:
    """Return what `Memory.state_dict` returned of one memory, as one of other sizes would return it.

    Args:
        state: the state, its arrays those of NumPy.
        memory_size: the number of rows of the other memory.
        num_envs: the number of its environments.
        fit: what to keep; see `fitted`.

    Raises:
        LoadMismatch: if the sizes differ and `fit` is ``"error"``.
    """
    tensors, wanted = state.get("tensors"), (memory_size, num_envs)
    tensors = dict(tensors) if isinstance(tensors, Mapping) else {}
    shapes = [np.shape(tensor) for tensor in tensors.values()]
    if not shapes or any(len(shape) < 2 or shape[:2] != shapes[0][:2] for shape in shapes) or shapes[0][:2] == wanted:
        return state
    position = int(state["memory_index"]), int(state["env_index"]), bool(state["filled"])
    found = fitted(MemorySnapshot(tensors, *position, {"seams": list(state.get("seams", ()))}), *wanted, fit)
    kept = {key: value for key, value in state.items() if key != "after_end" or shapes[0][1] == num_envs}
    placed = dict(zip(("memory_index", "env_index", "filled"), found.ring.position, strict=True))
    return {**kept, **placed, "tensors": found.tensors, "seams": found.seams}


def _columns(snapshot: MemorySnapshot, memory_size: int, num_envs: int, fit: Fit) -> list[NDArray[np.intp]]:
    """Return, for each environment of the result, the places in the source of its samples, oldest first."""
    sources = snapshot.histories()
    capacity, total = memory_size * num_envs, sum(map(len, sources))
    if num_envs == snapshot.num_envs:
        limit = memory_size
    else:
        limit = capacity if total <= capacity else max(1, capacity // snapshot.num_envs)
    kept = [source[-limit:] if fit == "newest" else source[:limit] for source in sources]
    if num_envs == snapshot.num_envs:
        return kept
    return np.array_split(np.concatenate(kept)[:capacity], num_envs)


def _new_seams(snapshot: MemorySnapshot, columns: list[NDArray[np.intp]], num_envs: int) -> list[int]:
    """Return the places of the result where samples meet that did not follow one another in the source.

    A column's last sample is one of them, unless the environment that is added to next is the one it came from.
    """
    newest, broken = -1, -2
    follower = np.full(snapshot.ring.capacity, newest)
    for history in snapshot.histories():
        follower[history[:-1]] = history[1:]
    follower[snapshot.seams] = broken
    end = newest if num_envs == snapshot.num_envs else broken
    seams: list[int] = []
    for environment, column in enumerate(columns):
        expected = np.append(column[1:], end)[: len(column)]
        rows = np.flatnonzero((follower[column] != expected) | (follower[column] == broken))
        seams += (rows * num_envs + environment).tolist()
    return seams


def _laid_out(
    snapshot: MemorySnapshot, columns: list[NDArray[np.intp]], memory_size: int, num_envs: int
) -> MemorySnapshot:
    """Return a snapshot whose environments hold the samples at the places given."""
    snapshot.require_unchanged()
    rows = np.concatenate([np.arange(len(column)) for column in columns])
    environments = np.repeat(np.arange(num_envs), [len(column) for column in columns])
    places = np.concatenate(columns)

    def laid_out(tensor: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros((memory_size, num_envs, *tensor.shape[2:]), tensor.dtype)
        flat = tensor.reshape(snapshot.ring.capacity, *tensor.shape[2:])
        result[rows, environments] = flat[places]
        return result

    tensors = {name: laid_out(tensor) for name, tensor in snapshot.tensors.items()}
    memory_index, env_index = divmod(len(places), num_envs)
    filled = memory_index == memory_size
    metadata = {**snapshot.metadata, "seams": _new_seams(snapshot, columns, num_envs)}
    return MemorySnapshot(tensors, 0 if filled else memory_index, env_index, filled, metadata)


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
        CorruptMemory: if a tensor lies in a file that was changed since it was read.
    """
    snapshot.require_unchanged()
    problems = [f"`{name}` is missing in the file" for name in specs if name not in {*snapshot.tensors, VALID}]
    found: dict[str, TensorSpec] = {}
    values: dict[str, NDArray[Any]] = {}
    for name, tensor in snapshot.tensors.items():
        try:
            given = _described(name, tensor, snapshot.metadata)
            _check_validity(given)
            found[name] = _own(given, specs) if specs else replace(given, dtype=_kept_as(given, dtype_name))
            if is_guessed(snapshot):
                tensor = _rounded(tensor, dtype_of(found[name].dtype))
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
    shape, limits = (_numbers(_table(metadata, key).get(name)) for key in ("shapes", "limits"))
    shape = shape if shape is not None and math.prod(shape) == math.prod(size) else None
    limits = limits if limits is not None and len(limits) == 2 else None
    bounds = _table(_table(metadata, "bounds"), name) or None
    return TensorSpec(tensor_name(name), size, str(tensor.dtype), bool(keep), str(space), shape, limits, bounds)


def _numbers(found: Any) -> tuple[int, ...] | None:
    is_row = isinstance(found, list | tuple) and all(type(number) is int for number in found)
    return tuple(found) if is_row else None


def _check_validity(given: TensorSpec) -> None:
    if given.name == VALID and (given.size, given.dtype) != (VALIDITY.size, VALIDITY.dtype):
        raise InvalidValue(
            f"`{VALID}` has the size {given.size} and the dtype {given.dtype} in the file, and tells a memory which "
            f"samples are transitions: {VALIDITY.size} and {VALIDITY.dtype}"
        )


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
    if given.name == VALID:
        return VALIDITY
    if given.name not in specs:
        raise InvalidValue(f"`{given.name}` is in the file, but the memory has no such tensor")
    own = specs[given.name]
    if given.size != own.size:
        raise InvalidValue(f"`{own.name}` has the size {given.size} in the file and {own.size} in the memory")
    if own.space:
        return own
    known: dict[str, Any] = {"space": given.space, "limits": given.limits, "bounds": given.bounds}
    return replace(own, shape=own.shape or given.shape, **known)


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


def _rounded(tensor: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers of a text that tells no dtype in that of a memory; as they are where that has no such number."""
    if "float" not in str(dtype) or tensor.dtype.kind != "f":
        exact = _exactly(tensor, dtype)
        return tensor if exact is None else exact
    with np.errstate(all="ignore"):
        made = tensor.astype(dtype)
    return made if np.array_equal(np.isfinite(made), np.isfinite(tensor)) else tensor


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
