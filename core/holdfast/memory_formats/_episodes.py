"""The samples of a memory as episodes: one environment after another, each from its oldest sample on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from holdfast.memory import MemorySnapshot
from holdfast.memory_fit import histories
from holdfast.memory_sequences import EPISODE_ENDS


@final
@dataclass(frozen=True)
class Episode:
    """Consecutive samples of one environment.

    Attributes:
        tensors: each tensor's samples, of shape (steps, *size).
        environment: which environment they are of.
        is_open: whether no end of an episode comes last, for the memory ends there.
        is_fragment: whether samples before the first one may have been overwritten.
    """

    tensors: Mapping[str, NDArray[Any]]
    environment: int
    is_open: bool
    is_fragment: bool


def episodes(snapshot: MemorySnapshot) -> Iterator[Episode]:
    """Yield the episodes of each environment in turn, cut after every true value of a tensor that ends episodes."""
    flat = {name: tensor.reshape(-1, *tensor.shape[2:]) for name, tensor in snapshot.tensors.items()}
    for environment, places in enumerate(histories(snapshot)):
        ended = np.zeros(len(places), bool)
        for name in EPISODE_ENDS & flat.keys():
            flags = flat[name][places].astype(bool)
            ended |= flags.any(axis=tuple(range(1, flags.ndim)))
        start = 0
        for stop in [*(np.flatnonzero(ended) + 1).tolist(), len(places)]:
            if stop > start:
                samples = {name: tensor[places[start:stop]] for name, tensor in flat.items()}
                fragment = snapshot.filled and start == 0
                yield Episode(samples, environment, is_open=not ended[stop - 1], is_fragment=fragment)
            start = stop
