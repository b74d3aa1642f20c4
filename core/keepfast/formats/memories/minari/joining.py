"""The episodes of another tool's dataset as one memory: those of one environment, one after another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfast._system.memory.spacious import spacious_tensors
from keepfast.formats.files.sealed import Damage
from keepfast.formats.memories.minari.episodes import pieces

MEMBERS = {"observations": ("states", "next_states"), "actions": ("actions",)}
"""By the name of what Minari has for each step, and once more at the end: the tensors that it becomes."""

OF_STEPS = {"rewards": "rewards", "terminated": "terminations", "truncated": "truncations"}
"""The names of the other tensors, each with Minari's."""

Column = tuple[Any, int]
"""Values by step, with a shape and a dtype, of which slices can be taken; and how many come before the first step's."""

Columns = tuple[dict[str, Column], int]
"""The columns of an episode by the name of their tensor, and how many steps it has."""


def one_after_another(episodes: Iterable[Columns], again: Iterable[Columns]) -> dict[str, NDArray[Any]]:
    """Return the episodes of a dataset as a full memory of one environment.

    Args:
        episodes: their columns, of which the shapes are looked at.
        again: the same, of which the values are taken; no two episodes need be in memory at once.

    Raises:
        Damage: if an episode is unlike the others.
    """
    layout: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
    total = 0
    for number, (columns, steps) in enumerate(episodes):
        found = {name: (values.shape[1:] or (1,), values.dtype) for name, (values, _) in columns.items()}
        layout = layout or found
        if {name: size for name, (size, _) in found.items()} != {name: size for name, (size, _) in layout.items()}:
            raise Damage(f"episode {number}", "has other observations or actions than the first one")
        layout = {name: (size, np.promote_types(dtype, found[name][1])) for name, (size, dtype) in layout.items()}
        total += steps
    tensors = spacious_tensors({name: ((total, 1, *size), dtype) for name, (size, dtype) in layout.items()})
    start = 0
    for columns, steps in again:
        for name, (values, offset) in columns.items():
            for target in pieces(tensors[name], 0, (slice(start, start + steps),)):
                if target.size:
                    target[...] = values[offset : offset + len(target)].reshape(target.shape)
                offset += len(target)
        start += steps
    return tensors
