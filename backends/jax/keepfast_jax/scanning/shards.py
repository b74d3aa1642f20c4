"""The devices that run one loop in step with each other, under ``shard_map`` or ``pmap``: the first calls the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import jax
import jax.numpy as jnp

from keepfast_jax.scanning.pieces import abstract, everywhere, varying

psum: Callable[..., Any] = jax.lax.psum


@final
class Shards:
    """The devices that trace the program at hand, or the only one.

    Attributes:
        size: how many there are.
        axes: 1 where arrays of all of them have an axis for them, else 0.
    """

    def __init__(self) -> None:
        mesh = jax.sharding.get_abstract_mesh()
        self._names = tuple(mesh.manual_axes)
        self.size = math.prod(mesh.shape[name] for name in self._names)
        self.axes = 1 if self._names else 0

    def first_alone(
        self, call: Callable[[], Sequence[Any]], results: Sequence[jax.ShapeDtypeStruct]
    ) -> tuple[Any, ...]:
        """Return the numbers that a function returns, which the first device alone calls, on each of them."""
        if not self._names:
            return tuple(call())
        nothing = everywhere(tuple(jnp.zeros(result.shape, result.dtype) for result in results))
        is_first = (jax.lax.axis_index(self._names) == 0).astype(jnp.int32)

        def once(going: tuple[Any, Any]) -> tuple[Any, Any]:
            return going[0] + 1, everywhere(tuple(call()))

        going = everywhere(jnp.int32(0)), nothing
        _, found = jax.lax.while_loop(lambda going: going[0] < is_first, once, going)
        return tuple(psum(number, self._names) for number in found)

    def of_all(self, arrays: Sequence[Any]) -> list[Any]:
        """Return arrays of all devices, with an axis for them."""
        if not self._names:
            return list(arrays)
        return [jax.lax.all_gather(array, self._names) for array in everywhere(list(arrays))]

    def own(self, arrays: Sequence[Any], like: Sequence[Any]) -> list[Any]:
        """Return this device's part of arrays of all of them.

        Args:
            arrays: the arrays.
            like: what they take the place of; what is the same on every device stays so.
        """
        if not self._names:
            return list(arrays)
        index = jax.lax.axis_index(self._names)
        pairs = zip(arrays, like, strict=True)
        is_told = bool(varying(index))  # as it is unless `check_vma` is off
        return [
            everywhere(_at(array, index)) if varying(before) or not is_told else array[0] for array, before in pairs
        ]

    def typed(self, tree: Any) -> Any:
        """Return the shapes and dtypes of arrays, of all devices."""
        axes = (self.size,) * self.axes
        return jax.tree.map(lambda leaf: abstract((*axes, *leaf.shape), leaf.dtype), tree)


def _at(array: Any, index: Any) -> Any:
    return jax.lax.dynamic_index_in_dim(array, index, 0, keepdims=False)
