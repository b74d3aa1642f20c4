"""How the samples of one memory are laid out in another of a different size or number of environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import InvalidValue, LoadMismatch
from holdfast.memory import MemorySnapshot, chronological_order
from holdfast.memory_tensors import TensorSpec

Fit = Literal["error", "newest", "oldest"]


def check_tensors(snapshot: MemorySnapshot, specs: Mapping[str, TensorSpec]) -> None:
    """Check that a snapshot holds just the tensors of a memory; one without tensors takes any.

    Raises:
        LoadMismatch: if it does not; lists every difference.
    """
    if not specs:
        return
    problems = [f"`{name}` is missing in the file" for name in specs if name not in snapshot.tensors]
    for name, tensor in snapshot.tensors.items():
        size, dtype = tuple(tensor.shape[2:]), str(tensor.dtype)
        if name not in specs:
            problems.append(f"`{name}` is in the file, but the memory has no such tensor")
        elif size != specs[name].size:
            problems.append(f"`{name}` has the size {size} in the file and {specs[name].size} in the memory")
        elif dtype != specs[name].dtype:
            problems.append(f"`{name}` has the dtype {dtype} in the file and {specs[name].dtype} in the memory")
    if problems:
        raise LoadMismatch("the memory is unchanged, for the file does not fit it:\n  " + "\n  ".join(problems))


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
    if fit not in get_args(Fit):
        raise InvalidValue(f"`fit` is {fit!r}; allowed: {', '.join(get_args(Fit))}")
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


def _columns(snapshot: MemorySnapshot, memory_size: int, num_envs: int, fit: Fit) -> list[NDArray[np.intp]]:
    """Return, for each environment of the result, the places in the source of its samples, oldest first."""
    sources = histories(snapshot)
    capacity, total = memory_size * num_envs, sum(map(len, sources))
    if num_envs == snapshot.num_envs:
        limit = memory_size
    else:
        limit = capacity if total <= capacity else max(1, capacity // snapshot.num_envs)
    kept = [source[-limit:] if fit == "newest" else source[:limit] for source in sources]
    if num_envs == snapshot.num_envs:
        return kept
    return np.array_split(np.concatenate(kept)[:capacity], num_envs)


def histories(snapshot: MemorySnapshot) -> list[NDArray[np.intp]]:
    """Return, for each environment, the places (row * num_envs + environment) of its samples, oldest first."""
    environments = range(snapshot.num_envs)
    if snapshot.filled:
        sizes, position = (snapshot.memory_size, snapshot.num_envs), (snapshot.memory_index, snapshot.env_index)
        order = chronological_order(*sizes, *position)
        return [order[:, environment] * snapshot.num_envs + environment for environment in environments]
    return [
        np.arange(snapshot.memory_index + (environment < snapshot.env_index)) * snapshot.num_envs + environment
        for environment in environments
    ]


def _laid_out(
    snapshot: MemorySnapshot, columns: list[NDArray[np.intp]], memory_size: int, num_envs: int
) -> MemorySnapshot:
    """Return a snapshot whose environments hold the samples at the places given."""
    rows = np.concatenate([np.arange(len(column)) for column in columns])
    environments = np.repeat(np.arange(num_envs), [len(column) for column in columns])
    places = np.concatenate(columns)

    def laid_out(tensor: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros((memory_size, num_envs, *tensor.shape[2:]), tensor.dtype)
        result[rows, environments] = tensor.reshape(-1, *tensor.shape[2:])[places]
        return result

    tensors = {name: laid_out(tensor) for name, tensor in snapshot.tensors.items()}
    memory_index, env_index = divmod(len(places), num_envs)
    filled = memory_index == memory_size
    return MemorySnapshot(tensors, 0 if filled else memory_index, env_index, filled, snapshot.metadata)
