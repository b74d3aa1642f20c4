"""The episodes of a memory as Minari lays them out in HDF5."""

from __future__ import annotations

import itertools
import math
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from keepfast.codec import array_bytes
from keepfast.formats.memories.minari.episodes import Episode, episodes, pieces, truth
from keepfast.formats.memories.minari.spaces import (
    Place,
    Tensors,
    following_of,
    observations_of,
    place_of_actions,
    place_of_observations,
)
from keepfast.formats.memories.minari.values import member_name, stored, stored_dtype
from keepfast.interfaces.memory_exporter import MemorySnapshot

_SMALL = 1 << 20


def write_episodes(data: Any, snapshot: MemorySnapshot) -> list[list[Any]]:
    """Write a group for each episode of transitions into an open HDF5 file, as Minari does, and nothing else.

    Returns:
        For each episode its environment, how many samples of that came before, its steps, and whether it is open, a
        fragment, and of transitions.
    """
    numbers = itertools.count()
    places = place_of_observations(snapshot), place_of_actions(snapshot)
    told = []
    for episode in episodes(snapshot):
        told.append([episode.environment, episode.start, episode.steps, episode.is_open, episode.is_fragment])
        told[-1].append(episode.is_valid)
        if episode.is_valid:
            number = next(numbers)
            group = data.create_group(f"episode_{number}")
            _write_values(group, snapshot.tensors, episode, *places)
            group.attrs.update({"id": number, "total_steps": episode.steps})
    return told


def write_rest(file: BinaryIO, snapshot: MemorySnapshot) -> None:
    """Write the samples that are no transitions, which Minari has no place for, each tensor's bytes by episodes."""
    for episode in episodes(snapshot):
        if not episode.is_valid:
            for tensor in snapshot.tensors.values():
                file.writelines(array_bytes(piece) for piece in pieces(tensor, episode.environment, episode.rows))


def _write_values(group: Any, tensors: Tensors, episode: Episode, observed: Place, acted: Place) -> None:
    """Write each tensor to Minari's place for it, or else to the infos; those have a value more than steps."""
    observations = observations_of(tensors)
    last = _following(tensors, episode)
    _write(group, "observations", tensors[observations], episode, last=last, place=observed)
    _write(group, "actions", tensors["actions"], episode, place=acted)
    _write(group, "rewards", tensors["rewards"], episode)
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
            _write(infos, member_name(name), tensors[name], episode, last=blank)


def _write(
    group: Any,
    name: str,
    tensor: NDArray[Any],
    episode: Episode,
    *,
    last: NDArray[Any] | None = None,
    place: Place | None = None,
) -> None:
    """Write a tensor's values in pieces, and one after the last; without a place, those of one element as a number."""
    if place is None:
        place = Place({}, stored_dtype(tensor.dtype), () if tensor.shape[2:] == (1,) else tensor.shape[2:])
    count = episode.steps + (last is not None)
    parts = itertools.chain(pieces(tensor, episode.environment, episode.rows), [] if last is None else [last])
    values = (stored(part).reshape(len(part), *place.size).astype(place.dtype, copy=False) for part in parts)
    if count * math.prod(place.size) * place.dtype.itemsize < _SMALL:  # as most are; in one go takes half the time
        group.create_dataset(name, data=np.concatenate(list(values)))
        return
    dataset, start = group.create_dataset(name, (count, *place.size), place.dtype), 0
    for part in values:
        dataset[start : start + len(part)] = part
        start += len(part)


def _following(tensors: Tensors, episode: Episode) -> NDArray[Any]:
    """Return the observation after the last step, of shape (1, *size); the one before it where that is unknown."""
    following = following_of(tensors)
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
