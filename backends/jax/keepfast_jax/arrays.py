"""The leaves of a state: arrays, random keys and numbers, on their way out of JAX and back.

Weak types travel too. JAX gives an array the weak type of a Python number where it came of nothing else
(``jnp.array(0.5)``, the step of a TrainState), and mixes it with other dtypes as it would mix the number. A 0-d array
of weak type is therefore stored as the Python number that it stands for, and a Python number that goes into an array's
place comes back as an array of weak type. An array with dimensions is stored as an array, and comes back strongly
typed, as an optimizer leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from keepfast import InvalidValue, LoadMismatch, UnsupportedModule, UsageError
from keepfast._system.memory.giving import taken
from keepfast._system.memory.staging import copied
from keepfast.tree import Tree, is_array, items, rebuild
from keepfast_jax.device import Placement
from keepfast_jax.modes import outside
from keepfast_jax.sharding.arrays import is_spread, sharded, spread_like

_LARGE = 1 << 20
"""From how many bytes on an array is surely no observation of an environment, but what is trained or remembered."""

Number = bool | int | float | complex
_LEAVES = (jax.Array, np.ndarray, np.generic, bool, int, float, complex, str, bytes, type(None))


@final
@dataclass(frozen=True)
class Target:
    """How restored leaves come to their places.

    Attributes:
        device: where JAX arrays go; None puts each where the one it replaces is.
        in_place: whether NumPy arrays are overwritten instead of replaced.
        written: the ids of the NumPy arrays overwritten so far. One that stands in two places is overwritten once, so
            that both places get what was saved for them.
    """

    device: Placement | None = None
    in_place: bool = False
    written: set[int] = field(default_factory=set)


KEY_PARTS = frozenset({"impl", "key_data"})
"""What is captured of random keys: the implementation's name and the data."""


def is_key(leaf: object) -> bool:
    """Say whether a leaf is an array of typed random keys, as ``jax.random.key`` makes them."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_leaf(node: object) -> bool:
    """Say whether a node is one that `capture_leaf` takes."""
    return isinstance(node, _LEAVES)


def capture_leaf(leaf: Any, path: str) -> Tree:
    """Return a leaf as it is, and of random keys the implementation's name and the data.

    Raises:
        UsageError: if it is an array whose value is gone, or not there yet; names the path.
        UnsupportedModule: if it is an array of Python objects; names the path.
    """
    if not isinstance(leaf, jax.Array):
        if isinstance(leaf, np.ndarray) and leaf.dtype.hasobject:
            raise UnsupportedModule(f"`{path or '(root)'}` is a NumPy array of Python objects, which cannot be stored")
        return leaf
    _check_readable(leaf, path)
    if is_key(leaf):
        return {"impl": str(jax.random.key_impl(leaf)), "key_data": jax.random.key_data(leaf)}
    return leaf


def _check_readable(array: jax.Array, path: str) -> None:
    if isinstance(array, jax.core.Tracer):
        raise UsageError(f"`{path or '(root)'}` is being traced and has no value yet; capture outside of jax.jit")
    if array.is_deleted():
        raise UsageError(
            f"the array `{path or '(root)'}` was deleted, or donated to a compiled function, so its value is gone; "
            "register what holds the function's result"
        )


def tracked(array: jax.Array) -> jax.Array:
    """Return an array that has a value, or is about to have one.

    Raises:
        InvalidValue: if it is being traced, so that it never will.
    """
    if isinstance(array, jax.core.Tracer):
        raise InvalidValue(
            "it is being traced (by jax.jit, grad, vmap or scan) and has no value; for a loop under jit use "
            "keepfast_jax.scan, whose function returns what is tracked; elsewhere return it from the traced function, "
            "and track what comes out"
        )
    return array


def host_array(value: Any) -> NDArray[Any] | None:
    """Return a NumPy array of an array of JAX; None of anything else.

    Raises:
        InvalidValue: if it is being traced, so that it has no value.
    """
    if not isinstance(value, jax.Array):
        return None
    with outside():
        return np.asarray(tracked(value))


def host_leaf(leaf: Any, *, shared: bool) -> Any:
    """Return a leaf on the host, in C order; waits for its device.

    Args:
        leaf: any leaf.
        shared: whether it may be memory that its owner will change; where not, nothing reaches it any more.
    """
    if not isinstance(leaf, jax.Array):
        return _copied(leaf, shared=shared) if isinstance(leaf, np.ndarray | np.generic) else leaf
    if is_spread(leaf):
        return sharded(leaf, shared=shared)
    array = np.asarray(leaf)
    if leaf.ndim == 0 and leaf.weak_type and array.dtype == _weak_dtype(number := array.item()):
        return number
    # NumPy owns what came over from an accelerator. On the CPU the array is JAX's own memory, which nobody writes to:
    # it is not donated while somebody looks at it. A small one may be NumPy's, which `jax.device_put` took over, and
    # its owner, an environment, writes to all the same.
    return _copied(array, shared=shared or array.flags.owndata or array.nbytes >= _LARGE)


def _copied(array: Any, *, shared: bool) -> NDArray[Any]:
    return np.asarray(array, order="C") if shared else copied(np.asarray(array))


def host_views(arrays: Sequence[Any]) -> list[NDArray[Any]]:
    """Return arrays as NumPy arrays, all transfers from devices under way at the same time.

    On the CPU these are views of JAX's own memory, which is not donated while somebody looks at it; do not keep them.

    Raises:
        UsageError: if an array was deleted or donated.
    """
    for array in arrays:
        if isinstance(array, jax.Array):
            if array.is_deleted():
                raise UsageError(
                    "a tracked array was deleted, or donated to a compiled function, before it was written; "
                    "track a copy of it (jnp.copy) or a value that is not donated"
                )
            if any(device.platform != "cpu" for device in array.devices()):
                array.copy_to_host_async()
    return [np.asarray(array) for array in arrays]


def _weak_dtype(number: Number) -> np.dtype[Any]:
    """Return the dtype that JAX takes for a Python number."""
    return np.dtype(jnp.result_type(type(number)))


def restore_leaf(own: Any, saved: Any, target: Target) -> Any:
    """Return a saved leaf as what its place holds.

    Args:
        own: what the place holds now; decides the kind, the dtype and, without a device, the placement.
        saved: a NumPy array, a number, or whatever else `host_leaf` left as it was.
        target: where arrays go.

    Raises:
        LoadMismatch: if random keys are of another implementation.
    """
    if saved is own:
        return own
    if is_key(own):
        return _restore_key(own, saved, target)
    if isinstance(own, jax.Array):
        return _restore_array(own, saved, target)
    if isinstance(own, np.ndarray):
        return _restore_numpy(own, saved, target)
    if isinstance(own, np.generic):
        return own.dtype.type(saved)
    return saved.item() if isinstance(own, Number) and is_array(saved) else saved


def new_leaves(saved: Tree, target: Target) -> Tree:
    """Return a saved tree with arrays of JAX in it, and random keys, where nothing that is there tells of its kinds."""
    if isinstance(saved, Mapping) and saved.keys() == KEY_PARTS:
        return jax.random.wrap_key_data(_placed(taken(saved["key_data"]), target.device), impl=saved["impl"])
    children = items(saved)
    if children is None:
        return _placed(taken(saved), target.device) if isinstance(saved, np.ndarray) else saved
    return rebuild(saved, [new_leaves(child, target) for _, child in children])


def _placed(value: Any, where: Placement | None) -> jax.Array:
    """Return an array of JAX with values of its own; on the CPU it takes over the memory of an array of NumPy."""
    is_number = where is None and not isinstance(value, np.ndarray)
    placed: jax.Array = jnp.asarray(value) if is_number else jax.device_put(value, where)
    return placed


def _restore_key(own: jax.Array, saved: Any, target: Target) -> jax.Array:
    impl = str(jax.random.key_impl(own))
    if saved["impl"] != impl:
        raise LoadMismatch(f"random keys of the implementation `{saved['impl']}` do not fit into those of `{impl}`")
    data = _restore_array(jax.random.key_data(own), saved["key_data"], target)
    keys: jax.Array = jax.random.wrap_key_data(data, impl=impl)
    return keys


def _restore_array(own: jax.Array, saved: Any, target: Target) -> jax.Array:
    if target.device is None and is_spread(own):
        return spread_like(own, saved)
    where = target.device or (own.sharding if own.committed else None)
    ambient = getattr(jax.config, "jax_default_device", None)
    if where is None and ambient is not None and own.devices() != {ambient}:
        with jax.default_device(next(iter(own.devices()))):  # not where the caller would have new arrays
            return _restore_array_to(own, saved, None)
    return _restore_array_to(own, saved, where)


def _restore_array_to(own: jax.Array, saved: Any, where: Placement | None) -> jax.Array:
    weak = isinstance(saved, Number) and _weak_dtype(saved) == own.dtype
    # One of its own, for JAX on the CPU takes over the memory of a NumPy array that it is given.
    value = saved if weak else taken(saved, own.dtype)
    return _placed(value, where)


def _restore_numpy(own: NDArray[Any], saved: Any, target: Target) -> NDArray[Any]:
    if target.in_place and own.flags.writeable and id(own) not in target.written:
        target.written.add(id(own))
        own[...] = saved
        return own
    return taken(saved, own.dtype)
