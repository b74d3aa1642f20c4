"""Finds where a file has different values for what is one and the same in memory: tied weights that were not tied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from keepfast.modules.registered import RegisteredModule
from keepfast.tree import Tree, dtype_name, flatten


def overwritten(loadable: Iterable[tuple[RegisteredModule, Tree]]) -> dict[str, str]:
    """Return the entries whose values are lost, each with the entry whose values are in their place in the end.

    Args:
        loadable: the modules that are restored, in this order, each with the tree to restore.
    """
    groups: dict[Any, list[tuple[str, np.ndarray[Any, Any]]]] = {}
    for module, state in loadable:
        for place, name, value in _values(module, state):
            groups.setdefault(place, []).append((name, value))
    return {
        name: entries[-1][0]
        for entries in groups.values()
        for name, value in entries[:-1]
        if not _are_same(value, entries[-1][1])
    }


def _values(module: RegisteredModule, state: Tree) -> Iterator[tuple[Any, str, np.ndarray[Any, Any]]]:
    """Yield what a file has for arrays that are changed in place: where each is in memory, its name, and the values."""
    if module.is_open or module.is_memory:
        return
    found = flatten(state)
    for path, leaf in flatten(module.capture()).items():
        value = found.get(path)
        if isinstance(value, np.ndarray) and value.size and (place := module.backend.place_of(leaf)) is not None:
            name = f"{module.name}.{path}" if path else module.name
            yield (place, tuple(leaf.shape), dtype_name(leaf)), name, value


def _are_same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one is other or one.tobytes() == other.tobytes()
