"""The samples of a memory as episodes: one environment after another, each from its oldest sample on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import EPISODE_ENDS

_PIECE = 1 << 24
"""How many bytes of a tensor are worked on at once: a memory may be larger than the machine's."""


@final
@dataclass(frozen=True)
class Episode:
    """Consecutive samples of one environment.

    Attributes:
        environment: which environment they are of.
        rows: where in a tensor they lie, in the order of time.
        is_open: whether no end of an episode comes last, for the memory ends there.
        is_fragment: whether samples before the first one may have been overwritten.
        start: how many samples of the environment came before.
        is_valid: whether they are transitions; those that are none are an episode of their own, and of no interest.
    """

    environment: int
    rows: tuple[slice, ...]
    is_open: bool
    is_fragment: bool
    start: int
    is_valid: bool = True

    @property
    def steps(self) -> int:
        """Return the number of samples."""
        return sum(rows.stop - rows.start for rows in self.rows)


def episodes(snapshot: MemorySnapshot) -> Iterator[Episode]:
    """Yield the episodes of each environment in turn.

    They are cut after every true value of a tensor that ends episodes, where a sample does not follow the one before
    it, and around samples that are no transitions.
    """
    valid = snapshot.valid
    ring, seams = snapshot.ring, np.array(snapshot.chronological_seams(), np.intp).reshape(-1, 2)
    for environment in range(ring.num_envs):
        count = ring.count(environment)
        everything = ring.rows(environment, 0, count)
        ended = _ends(snapshot.tensors, everything, environment)
        kept = np.concatenate([np.zeros(0, bool), *(valid[part, environment] for part in everything)])
        cut = ended.copy()
        cut[:-1] |= kept[:-1] != kept[1:]
        cut[seams[seams[:, 1] == environment, 0]] = True
        start = 0
        for stop in [*(np.flatnonzero(cut) + 1).tolist(), count]:
            if stop > start:
                rows = ring.rows(environment, start, stop)
                fragment = ring.filled and start == 0
                yield Episode(environment, rows, not ended[stop - 1], fragment, start, bool(kept[start]))
            start = stop


def pieces(tensor: NDArray[Any], environment: int, rows: tuple[slice, ...]) -> Iterator[NDArray[Any]]:
    """Yield views of a tensor that together are some samples of an environment, none of them large."""
    step = max(1, _PIECE // max(1, tensor[:1, :1].nbytes))
    for part in rows:
        for start in range(part.start, part.stop, step):
            yield tensor[start : min(start + step, part.stop), environment]


def truth(tensor: NDArray[Any], environment: int, rows: tuple[slice, ...]) -> NDArray[np.bool_]:
    """Return for each sample whether any of its values is true."""
    flags = [piece.astype(bool) for piece in pieces(tensor, environment, rows)]
    return np.concatenate([np.zeros(0, bool), *(flag.any(axis=tuple(range(1, flag.ndim))) for flag in flags)])


def _ends(tensors: Mapping[str, NDArray[Any]], rows: tuple[slice, ...], environment: int) -> NDArray[np.bool_]:
    ended = np.zeros(sum(part.stop - part.start for part in rows), bool)
    for name in EPISODE_ENDS & tensors.keys():
        ended |= truth(tensors[name], environment, rows)
    return ended
