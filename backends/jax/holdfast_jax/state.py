"""State of whatever JAX programs keep: captured as a tree of plain containers, and restored from one.

Whatever is looked into is one of these, tried in this order:

- a leaf: an array, random keys, a number (see `holdfast_jax.arrays`);
- an object with ``state_dict`` and ``load_state_dict``, which is asked to do it itself;
- a `Model`, a flax.nnx module, optimizer, metric or variable, which keep their identity;
- a container: dictionary, sequence or registered pytree (see `holdfast_jax.containers`).

Entries are named as JAX and Flax name them: ``params.Dense_0.kernel``, ``opt_state.0.mu``, ``layers.0.bias``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from holdfast.errors import UnsupportedModule
from holdfast.tree import Tree, is_array, items, rebuild
from holdfast_jax.arrays import Number, Target, capture_leaf, is_key, is_leaf, restore_leaf
from holdfast_jax.containers import open_container
from holdfast_jax.model import Model

_BUILTIN = (dict, list, tuple)
_NNX = (nnx.Pytree, nnx.Variable)


def capture(node: Any, path: str = "") -> Tree:
    """Return the state of a module, its arrays still shared with it.

    Args:
        node: the module, or a part of it.
        path: where that part is in the module, for errors.

    Raises:
        UnsupportedModule: if a part is nothing that a file can hold; names its path.
        UsageError: if an array was deleted or donated; names its path.
    """
    if type(node) not in _BUILTIN:  # the common case, and most calls
        if is_leaf(node):
            return capture_leaf(node, path)
        if (inner := _inner(node)) is not node:
            return capture(inner, path)
    container = open_container(node)
    if container is None:
        raise UnsupportedModule(
            f"`{path or '(root)'}` is a {type(node).__module__}.{type(node).__qualname__}, which cannot be stored; "
            "allowed: arrays, numbers, strings, bytes, None, registered pytrees, nnx modules, and objects with "
            "state_dict and load_state_dict. What is not state belongs into the static fields of its pytree"
        )
    prefix = f"{path}." if path else ""
    return container.plain([capture(child, f"{prefix}{name}") for name, child in container.children.items()])


def _inner(node: Any) -> Any:
    """Return what holds the state of an object that has it in another; else the object itself."""
    if keeps_own_state(node):
        return node.state_dict()
    if isinstance(node, Model):
        return node.variables
    if isinstance(node, nnx.Variable):
        return node.get_value()
    if isinstance(node, nnx.Pytree):
        return nnx.to_pure_dict(nnx.state(node))
    return nnx.to_pure_dict(node) if isinstance(node, nnx.State) else node


def restore(module: Any, state: Tree, device: Any = None) -> Any:
    """Put a state into a module.

    Args:
        module: what to restore; every type, dtype and static field is taken from it.
        state: a tree of the shape that `capture` gives for it, with NumPy arrays of any origin, which are not kept.
        device: a ``jax.Device`` or ``jax.sharding.Sharding`` for all arrays; None leaves each where the module has it.

    Returns:
        The module, changed in place, if it `is_mutable`, else a new one like it.
    """
    target = Target(device, in_place=isinstance(module, dict | list | np.ndarray))
    restored = _restored(module, state, target)
    if isinstance(module, list):
        module[:] = restored
    elif isinstance(module, dict):
        for key in list(module):
            module[key] = restored[key]
    else:
        return restored
    return module


def keeps_own_state(node: object) -> bool:
    """Say whether an object captures and restores itself, by ``state_dict`` and ``load_state_dict``."""
    kind = type(node)  # an instance may answer to every name, as nnx.Rngs does
    return callable(getattr(kind, "state_dict", None)) and callable(getattr(kind, "load_state_dict", None))


def is_mutable(module: object) -> bool:
    """Say whether `restore` changes a module in place: whether it has an identity that its owner relies on."""
    if isinstance(module, np.ndarray):
        return module.flags.writeable
    return isinstance(module, (dict, list, Model, *_NNX)) or keeps_own_state(module)


def _restored(node: Any, state: Tree, target: Target) -> Any:
    if is_leaf(node):
        return restore_leaf(node, state, target)
    if keeps_own_state(node):
        node.load_state_dict(_resembling(node.state_dict(), state, target))
    elif isinstance(node, Model):
        node.variables = _restored(node.variables, state, target)
    elif isinstance(node, nnx.Variable):
        node.set_value(_restored(node.get_value(), state, target))
    elif isinstance(node, nnx.Pytree):
        nnx.update(node, _restored_variables(nnx.state(node), state, target))
    elif isinstance(node, nnx.State):
        return _restored_variables(node, state, target)
    elif (container := open_container(node)) is not None:
        return container.like([_restored(child, state[name], target) for name, child in container.children.items()])
    return node


def _restored_variables(own: nnx.State[Any, Any], state: Tree, target: Target) -> nnx.State[Any, Any]:
    """Return new variables of an nnx state; its own may be those of a live module."""
    restored = []
    for path, variable in nnx.to_flat_state(own):
        saved = state
        for part in path:
            saved = saved[part]
        if isinstance(variable, nnx.Variable):
            restored.append((path, variable.replace(_restored(variable.get_value(), saved, target))))
        else:
            restored.append((path, _restored(variable, saved, target)))
    return nnx.from_flat_state(restored)


def _resembling(own: Any, saved: Tree, target: Target) -> Tree:
    """Return a saved tree with what the object's own has of JAX: its arrays, keys and containers, wherever they fit."""
    if isinstance(own, jax.Array | np.generic):
        fits = isinstance(saved, Mapping) if is_key(own) else is_array(saved) or isinstance(saved, Number)
        return restore_leaf(own, saved, target) if fits else saved
    if isinstance(own, (*_NNX, nnx.State, Model)):
        return _restored(own, saved, target)
    container = None if is_leaf(own) else open_container(own)
    found = items(saved)
    if container is None or found is None:
        return saved
    made = {key: _resembling(container.children.get(key), child, target) for key, child in found}
    if made.keys() == container.children.keys():
        return container.like([made[key] for key in container.children])
    return rebuild(saved, list(made.values()))
