"""Ring: where a circular buffer is, and which of its samples follow one another in time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast.interfaces.memory_exporter import chronological_order

EPISODE_ENDS = frozenset({"terminated", "truncated", "dones"})
"""The tensors whose true values end an episode."""


def sequence_starts(
    ends: NDArray[Any], memory_index: int, env_index: int, filled: bool, length: int
) -> NDArray[np.intp]:
    """Return the places where a sequence can start.

    Args:
        ends: whether a sample is the last of its episode, of shape (memory_size, num_envs).
        memory_index: the row that is written next.
        env_index: the environment that is written next.
        filled: whether every row has been written.
        length: how many samples a sequence has, at least 2.

    Returns:
        Places, row * num_envs + environment, from which `length` samples are written, follow one another, and do not
        go beyond the end of an episode.
    """
    memory_size, num_envs = ends.shape
    last = memory_size - length + 1
    if last <= 0:
        return np.empty(0, np.intp)
    rows, written = _in_time(memory_size, num_envs, memory_index, env_index, filled)
    ended = np.zeros((memory_size + 1, num_envs), np.intp)
    np.cumsum(np.take_along_axis(ends, rows, axis=0), axis=0, out=ended[1:])
    unbroken = ended[length - 1 : length - 1 + last] == ended[:last]  # none of the samples but the last ends it
    inside = np.arange(last)[:, None] + length <= written
    start, environment = np.nonzero(unbroken & inside)
    places: NDArray[np.intp] = rows[start, environment] * num_envs + environment
    return places


def environment_places(
    memory_size: int, num_envs: int, memory_index: int, env_index: int, filled: bool
) -> list[NDArray[np.intp]]:
    """Return, for each environment, the places (row * num_envs + environment) of its samples, oldest first."""
    rows, written = _in_time(memory_size, num_envs, memory_index, env_index, filled)
    return [rows[: written[each], each] * num_envs + each for each in range(num_envs)]


def _in_time(
    memory_size: int, num_envs: int, memory_index: int, env_index: int, filled: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of each environment, oldest first, of shape (memory_size, num_envs), and how many are written."""
    if filled:
        return chronological_order(memory_size, num_envs, memory_index, env_index), np.full(num_envs, memory_size)
    return chronological_order(memory_size, num_envs, 0, 0), memory_index + (np.arange(num_envs) < env_index)
