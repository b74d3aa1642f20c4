"""How the samples of one memory are laid out in another of a different size or number of environments."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue, LoadMismatch
from keepfast.memory import MemorySnapshot
from keepfast.memory_sequences import environment_places

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
    sizes, position = (snapshot.memory_size, snapshot.num_envs), (snapshot.memory_index, snapshot.env_index)
    return environment_places(*sizes, *position, snapshot.filled)


def seams_of(snapshot: MemorySnapshot) -> list[int]:
    """Return the places of samples that the next one of their environment does not follow in time."""
    places = snapshot.metadata.get("seams")
    capacity = snapshot.memory_size * snapshot.num_envs
    return [place for place in places if place in range(capacity)] if isinstance(places, list | tuple) else []


def chronological_seams(snapshot: MemorySnapshot) -> list[tuple[int, int]]:
    """Return which samples of which environments, counted from its oldest, the next one does not follow in time."""
    seams = seams_of(snapshot)
    return [
        (sample, environment)
        for environment, history in enumerate(histories(snapshot))
        for sample in np.flatnonzero(np.isin(history, seams)).tolist()
    ]


def _new_seams(snapshot: MemorySnapshot, columns: list[NDArray[np.intp]], num_envs: int) -> list[int]:
    """Return the places of the result where samples meet that did not follow one another in the source.

    A column's last sample is one of them, unless the environment that is added to next is the one it came from.
    """
    newest, broken = -1, -2
    follower = np.full(snapshot.memory_size * snapshot.num_envs, newest)
    for history in histories(snapshot):
        follower[history[:-1]] = history[1:]
    follower[seams_of(snapshot)] = broken
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
    rows = np.concatenate([np.arange(len(column)) for column in columns])
    environments = np.repeat(np.arange(num_envs), [len(column) for column in columns])
    places = np.concatenate(columns)

    def laid_out(tensor: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros((memory_size, num_envs, *tensor.shape[2:]), tensor.dtype)
        flat = tensor.reshape(snapshot.memory_size * snapshot.num_envs, *tensor.shape[2:])
        result[rows, environments] = flat[places]
        return result

    tensors = {name: laid_out(tensor) for name, tensor in snapshot.tensors.items()}
    memory_index, env_index = divmod(len(places), num_envs)
    filled = memory_index == memory_size
    metadata = {**snapshot.metadata, "seams": _new_seams(snapshot, columns, num_envs)}
    return MemorySnapshot(tensors, 0 if filled else memory_index, env_index, filled, metadata)
