"""Finds where a file has different values for what is one and the same in memory: tied weights that were not tied.

Two arrays may be one by their memory alone: one is the other's transpose, or a part of it. So what a load writes is
written here first, to a memory like theirs, and what is not there in the end is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.modules.registered import RegisteredModule
from keepfast.plugins.backends import PLAIN
from keepfast.tree import Tree, flatten


@final
@dataclass(frozen=True)
class _Written:
    """What a load writes to an array that is changed in place.

    Attributes:
        name: the full path of the array.
        values: what is written.
        start: the address of its first number.
        strides: its strides, in bytes.
    """

    name: str
    values: NDArray[Any]
    start: int
    strides: tuple[int, ...]

    @property
    def end(self) -> int:
        """Return the address behind its last number."""
        steps: int = sum((size - 1) * stride for size, stride in zip(self.values.shape, self.strides, strict=True))
        return self.start + steps + int(self.values.itemsize)

    def over(self, memory: NDArray[np.uint8], base: int) -> NDArray[Any]:
        """Return the array in a memory that begins at an address."""
        return np.ndarray(self.values.shape, self.values.dtype, memory.data, self.start - base, self.strides)


def overwritten(loadable: Iterable[tuple[RegisteredModule, Tree]]) -> dict[str, str]:
    """Return the entries whose values are lost, each with the entry whose values are in their place in the end.

    Args:
        loadable: the modules that are restored, in this order, each with the tree to restore.
    """
    written = [each for module, state in loadable for each in _written(module, state)]
    order = {each.name: number for number, each in enumerate(written)}
    lost: dict[str, str] = {}
    for group in _overlapping(written):
        lost |= _lost(sorted(group, key=lambda each: order[each.name]))
    return {each.name: lost[each.name] for each in written if each.name in lost}


def _written(module: RegisteredModule, state: Tree) -> Iterator[_Written]:
    if module.is_open or module.is_memory:
        return
    found = flatten(state)
    for path, leaf in flatten(module.capture()).items():
        value = found.get(path)
        if not isinstance(value, np.ndarray) or not value.size or value.dtype.hasobject:
            continue
        if tuple(getattr(leaf, "shape", ())) != value.shape:  # of another size it is replaced, wherever it is
            continue
        if (layout := _layout(module, leaf)) is not None:
            yield _Written(f"{module.name}.{path}" if path else module.name, value, *layout)


def _layout(module: RegisteredModule, leaf: Any) -> tuple[int, tuple[int, ...]] | None:
    """Return where an array is that is changed in place, and its strides in bytes."""
    if isinstance(leaf, np.ndarray):
        is_changed = module.backend.name == PLAIN and min(leaf.strides, default=0) >= 0
        return (leaf.__array_interface__["data"][0], leaf.strides) if is_changed else None
    place, strides = module.backend.place_of(leaf), module.backend.strides_of(leaf)
    return None if place is None or strides is None else (place, strides)


def _overlapping(written: Iterable[_Written]) -> Iterator[list[_Written]]:
    """Yield those whose memory meets that of others."""
    group: list[_Written] = []
    end = 0
    for each in sorted(written, key=lambda each: each.start):
        if each.start >= end:
            if len(group) > 1:
                yield group
            group = []
        group.append(each)
        end = max(end, each.end)
    if len(group) > 1:
        yield group


def _lost(group: Sequence[_Written]) -> dict[str, str]:
    """Return which of arrays that share memory do not have their values in the end, and whose are there."""
    if all(_are_same(one, other) for one, other in pairwise(group)):
        return {}
    base = min(each.start for each in group)
    memory = np.zeros(max(each.end for each in group) - base, np.uint8)
    for each in group:
        each.over(memory, base)[...] = each.values
    kept = {each.name: each.over(memory, base).tobytes() == each.values.tobytes() for each in group}
    return {each.name: _last_over(each, group) for each in group if not kept[each.name]}


def _last_over(each: _Written, group: Sequence[_Written]) -> str:
    over = [other for other in group if other is not each and other.start < each.end and each.start < other.end]
    return over[-1].name


def _are_same(one: _Written, other: _Written) -> bool:
    is_one_place = (one.start, one.strides, one.values.shape) == (other.start, other.strides, other.values.shape)
    return is_one_place and (one.values is other.values or one.values.tobytes() == other.values.tobytes())
