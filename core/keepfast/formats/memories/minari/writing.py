"""The episodes of a memory as Minari lays them out in HDF5."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.errors import InvalidValue
from keepfast.formats.memories.minari.episodes import Episode, episodes, pieces, truth
from keepfast.formats.memories.minari.values import member_name, stored, stored_dtype
from keepfast.interfaces.memory_exporter import MemorySnapshot

OBSERVATIONS = ("states", "observations")
"""What a tensor of observations may be called; the first that is there is Minari's."""

_SMALL = 1 << 20

Tensors = Mapping[str, NDArray[Any]]


def observations_of(tensors: Tensors) -> str:
    """Return the name of the tensor of observations.

    Raises:
        InvalidValue: if a tensor that every Minari dataset has is missing.
    """
    found = next((name for name in OBSERVATIONS if name in tensors), None)
    if found is None or not {"actions", "rewards"} <= tensors.keys():
        raise InvalidValue(
            "a Minari dataset needs the tensors `states` (or `observations`), `actions` and `rewards`; the memory has "
            f"{', '.join(f'`{name}`' for name in tensors) or 'none'}"
        )
    return found


def is_discrete(tensor: NDArray[Any]) -> bool:
    """Say whether actions number the elements of a set: one whole number from 0 on for each sample."""
    kind, size = stored_dtype(tensor.dtype).kind, tensor.shape[2:]
    if kind not in "iu" or size != (1,):
        return False
    return not tensor.size or bool(tensor.min() >= 0 and tensor.max() < np.iinfo(np.int64).max)


def write_episodes(data: Any, snapshot: MemorySnapshot) -> None:
    """Write a group for each episode into an open HDF5 file; Minari sees those that are called as it calls them."""
    numbers = {True: itertools.count(), False: itertools.count()}
    scalars = {"rewards"} | ({"actions"} if is_discrete(snapshot.tensors["actions"]) else set())
    for episode in episodes(snapshot):
        number = next(numbers[episode.is_valid])
        group = data.create_group(f"{'episode' if episode.is_valid else 'keepfast_invalid'}_{number}")
        _write_values(group, snapshot.tensors, episode, scalars)
        marks = {"keepfast_open": episode.is_open, "keepfast_fragment": episode.is_fragment}
        place = {"keepfast_environment": episode.environment, "keepfast_start": episode.start}
        group.attrs.update({"id": number, "total_steps": episode.steps, **place, **marks})


def _write_values(group: Any, tensors: Tensors, episode: Episode, scalars: set[str]) -> None:
    """Write each tensor to Minari's place for it, or else to the infos; those have a value more than steps."""
    observations = observations_of(tensors)
    _write(group, "observations", tensors[observations], episode, last=_following(tensors, observations, episode))
    for name in ("actions", "rewards"):
        _write(group, name, tensors[name], episode, scalar=name in scalars)
    flags = _flags(tensors, episode)
    group["terminations"], group["truncations"] = flags
    own = {
        observations,
        "actions",
        "rewards",
        *(name for name in ("terminated", "truncated") if _is_own(tensors, name)),
    }
    infos = group.create_group("infos") if tensors.keys() - own else None
    for name in tensors:
        if name not in own:
            blank = np.zeros((1, *tensors[name].shape[2:]), tensors[name].dtype)
            _write(infos, member_name(name), tensors[name], episode, last=blank, scalar=True)


def _write(
    group: Any,
    name: str,
    tensor: NDArray[Any],
    episode: Episode,
    *,
    last: NDArray[Any] | None = None,
    scalar: bool = False,
) -> None:
    """Write a tensor's values in pieces, and one after the last; those of one element as a number where asked."""
    size = () if scalar and tensor.shape[2:] == (1,) else tensor.shape[2:]
    count = episode.steps + (last is not None)
    parts = itertools.chain(pieces(tensor, episode.environment, episode.rows), [] if last is None else [last])
    values = (stored(part).reshape(len(part), *size) for part in parts)
    if count * math.prod(size) * tensor.itemsize < _SMALL:  # as most are; in one go takes half the time
        group.create_dataset(name, data=np.concatenate(list(values)))
        return
    dataset, start = group.create_dataset(name, (count, *size), stored_dtype(tensor.dtype)), 0
    for part in values:
        dataset[start : start + len(part)] = part
        start += len(part)


def _following(tensors: Tensors, observations: str, episode: Episode) -> NDArray[Any]:
    """Return the observation after the last step, of shape (1, *size); the one before it where that is unknown."""
    given = tensors[observations]
    following = tensors.get("next_states", given)
    if (following.shape, following.dtype) != (given.shape, given.dtype):
        following = given
    last = episode.rows[-1].stop
    return following[last - 1 : last, episode.environment]


def _flags(tensors: Tensors, episode: Episode) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return Minari's terminations and truncations: each episode ends with one of them."""
    known = {
        name: truth(tensors[name], episode.environment, episode.rows)
        for name in ("terminated", "truncated", "dones")
        if name in tensors
    }
    nothing = np.zeros(episode.steps, bool)
    terminated, truncated = known.get("terminated", nothing), known.get("truncated", nothing).copy()
    unexplained = known.get("dones", nothing) & ~terminated & ~truncated
    if "terminated" in known:
        truncated |= unexplained
    else:
        terminated = unexplained
    truncated[-1] |= episode.is_open
    return terminated, truncated


def _is_own(tensors: Tensors, name: str) -> bool:
    """Say whether Minari's own place for a flag keeps the tensor whole, but for the end of an open episode."""
    if name not in tensors or tensors[name].dtype.kind != "b" or tensors[name].shape[2:] not in {(), (1,)}:
        return False
    return name == "terminated" or not {"terminated", "dones"} <= tensors.keys()
