"""State of whatever JAX programs keep: captured as a tree of plain containers, and restored from one.

Each kind of object is a row of `KINDS`, and a module is looked into kind by kind, down to its leaves. Entries are named
as JAX and Flax name them: ``params.Dense_0.kernel``, ``opt_state.0.mu``, ``layers.0.bias``.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

import jax
import numpy as np
from flax import nnx
from flax.serialization import from_state_dict, to_state_dict

from keepfast import KeepfastError, LoadMismatch, Mismatch, UnsupportedModule, UsageError
from keepfast.plain.numbers import difference
from keepfast.tree import Growing, Tree, dtype_name, is_array, items, rebuild
from keepfast_jax.arrays import KEY_PARTS, Number, Target, capture_leaf, is_key, is_leaf, new_leaves, restore_leaf
from keepfast_jax.containers import Container, is_serialized_by_its_own, open_container
from keepfast_jax.device import Placement
from keepfast_jax.model import Keeping


class Kind(abc.ABC):
    """How one kind of object is captured and restored. A new kind is a class here and a row of `KINDS`."""

    is_open: ClassVar[bool] = False
    """Whether the object takes entries that it does not have yet."""

    @abc.abstractmethod
    def includes(self, node: object) -> bool:
        """Say whether an object is of this kind; all objects of a type are, or none."""

    def replaces(self, node: Any) -> bool:
        """Say whether `restore` returns another object."""
        return False

    @abc.abstractmethod
    def capture(self, node: Any, path: str) -> Tree:
        """Return the object's state, arrays still shared with it; `path` is where it is, for errors."""

    @abc.abstractmethod
    def restore(self, node: Any, state: Tree, target: Target) -> Any:
        """Put a state into the object and return it, or return what replaces it."""


@final
class _LeafKind(Kind):
    """An array, random keys, a number, text or None (see `keepfast_jax.arrays`)."""

    def includes(self, node: object) -> bool:
        return is_leaf(node)

    def replaces(self, node: Any) -> bool:
        return not (isinstance(node, np.ndarray) and node.flags.writeable)

    def capture(self, node: Any, path: str) -> Tree:
        return capture_leaf(node, path)

    def restore(self, node: Any, state: Tree, target: Target) -> Any:
        return restore_leaf(node, state, target)


@final
class _StatefulKind(Kind):
    """An object with ``state_dict`` and ``load_state_dict``, which gets back arrays and containers as it gave them."""

    is_open = True

    def includes(self, node: object) -> bool:
        kind = type(node)  # an instance may answer to every name, as nnx.Rngs does
        return callable(getattr(kind, "state_dict", None)) and callable(getattr(kind, "load_state_dict", None))

    def capture(self, node: Any, path: str) -> Tree:
        return capture(node.state_dict(), path)

    def restore(self, node: Any, state: Tree, target: Target) -> Any:
        try:
            node.load_state_dict(_resembling(node.state_dict(), state, target))
        except KeepfastError:
            raise
        except Exception as error:
            raise LoadMismatch(f"{type(node).__qualname__} cannot load the file's state: {error}") from error
        return node


@final
class _ModelKind(Kind):
    """A model with its variables, which gets others."""

    def includes(self, node: object) -> bool:
        return isinstance(node, Keeping)

    def capture(self, node: Keeping, path: str) -> Tree:
        if node.variables is None:
            raise UnsupportedModule(
                f"`{path or 'the model'}` is a {type(node).__qualname__} without variables; `init_variables` makes "
                "them, and `load` takes a file's"
            )
        return capture(node.variables, path)

    def restore(self, node: Keeping, state: Tree, target: Target) -> Keeping:
        node.variables = _restored(node.variables, state, target)
        return node


@final
class _VariableKind(Kind):
    """A variable of flax.nnx, which gets another value."""

    def includes(self, node: object) -> bool:
        return isinstance(node, nnx.Variable)

    def capture(self, node: nnx.Variable[Any], path: str) -> Tree:
        return capture(node.get_value(), path)

    def restore(self, node: nnx.Variable[Any], state: Tree, target: Target) -> nnx.Variable[Any]:
        node.set_value(_restored(node.get_value(), state, target))
        return node


@final
class _NnxKind(Kind):
    """A module, optimizer, metric or random stream of flax.nnx, whose variables get other values."""

    def includes(self, node: object) -> bool:
        return isinstance(node, nnx.Pytree)

    def capture(self, node: nnx.Pytree, path: str) -> Tree:
        return capture(nnx.to_pure_dict(nnx.state(node)), path)

    def restore(self, node: nnx.Pytree, state: Tree, target: Target) -> nnx.Pytree:
        nnx.update(node, _restored(nnx.state(node), state, target))
        return node


@final
class _NnxStateKind(Kind):
    """A state that ``nnx.state`` or ``nnx.split`` took out of a module. It may hold the module's own variables."""

    def includes(self, node: object) -> bool:
        return isinstance(node, nnx.State)

    def replaces(self, node: Any) -> bool:
        return True

    def capture(self, node: nnx.State[Any, Any], path: str) -> Tree:
        return capture(nnx.to_pure_dict(node), path)

    def restore(self, node: nnx.State[Any, Any], state: Tree, target: Target) -> nnx.State[Any, Any]:
        restored = []
        for path, part in nnx.to_flat_state(node):
            saved = state
            for key in path:
                saved = saved[key]
            if isinstance(part, nnx.Variable):
                restored.append((path, part.replace(_restored(part.get_value(), saved, target))))
            else:
                restored.append((path, _restored(part, saved, target)))
        return nnx.from_flat_state(restored)


@final
class _SerializedKind(Kind):
    """An object of a class of which Flax was told how to serialize it; a new one is made."""

    def includes(self, node: object) -> bool:
        return is_serialized_by_its_own(node)

    def replaces(self, node: Any) -> bool:
        return True

    def capture(self, node: Any, path: str) -> Tree:
        return capture(to_state_dict(node), path)

    def restore(self, node: Any, state: Tree, target: Target) -> Any:
        own = to_state_dict(node)
        try:
            return from_state_dict(node, _restored(own, state, target))
        except KeepfastError:
            raise
        except Exception as error:
            raise LoadMismatch(f"{type(node).__qualname__} cannot load the file's state: {error}") from error


@final
class _ContainerKind(Kind):
    """A dictionary, sequence or registered pytree (see `keepfast_jax.containers`), of which a new one is made."""

    def includes(self, node: object) -> bool:
        return open_container(node) is not None

    def replaces(self, node: Any) -> bool:
        return not isinstance(node, dict | list)

    def capture(self, node: Any, path: str) -> Tree:
        container = _opened(node)
        prefix = f"{path}." if path else ""
        return container.plain([capture(child, f"{prefix}{name}") for name, child in container.children.items()])

    def restore(self, node: Any, state: Tree, target: Target) -> Any:
        container = _opened(node)
        return container.like([_restored(child, state[name], target) for name, child in container.children.items()])


@final
class _DequeKind(Kind):
    """A deque, which takes as many entries as the file has and its length allows."""

    def includes(self, node: object) -> bool:
        return isinstance(node, deque)

    def capture(self, node: deque[Any], path: str) -> Tree:
        prefix = f"{path}." if path else ""
        return Growing(capture(each, f"{prefix}{number}") for number, each in enumerate(node))

    def restore(self, node: deque[Any], state: Tree, target: Target) -> Any:
        own = list(node)
        restored = [
            _resembling(own[min(number, len(own) - 1)], each, target) if own else new_leaves(each, target)
            for number, each in enumerate(state)
        ]
        node.clear()
        node.extend(restored)
        return node


@final
class _ParamsKind(Kind):
    """An object whose attribute ``state_dict`` has its ``params``, and is replaced: models and scalers of skrl."""

    def includes(self, node: object) -> bool:
        return params_of(node) is not None

    def capture(self, node: Any, path: str) -> Tree:
        if (params := params_of(node)) is None:
            raise UsageError(f"`{path or 'the model'}` is a {type(node).__qualname__} without a `state_dict` until now")
        return capture(params, path)

    def restore(self, node: Any, state: Tree, target: Target) -> Any:
        held = node.state_dict
        node.state_dict = held.replace(params=_restored(held.params, state, target))
        return node


def params_of(node: object) -> Any | None:
    """Return what is the state of an object whose attribute ``state_dict`` holds its ``params``; None of all others."""
    try:
        held = getattr(node, "state_dict", None)
    except Exception:  # noqa: BLE001  (a property of anybody's, which may raise anything)
        return None
    is_held = not callable(held) and callable(getattr(held, "replace", None))
    return getattr(held, "params", None) if is_held else None


def _opened(node: Any) -> Container:
    container = open_container(node)
    assert container is not None, "asked before by `includes`"  # noqa: S101
    return container


KINDS: tuple[Kind, ...] = (
    _LeafKind(),
    _SerializedKind(),
    _StatefulKind(),
    _ModelKind(),
    _VariableKind(),
    _NnxKind(),
    _NnxStateKind(),
    _DequeKind(),
    _ContainerKind(),
    _ParamsKind(),
)
"""Every kind of object, asked in this order."""

_known: dict[type, Kind] = {}


def find_kind(node: object) -> Kind | None:
    """Return the kind of an object, or None for one that has no state to capture."""
    kind = _known.get(type(node))
    if kind is None:
        kind = next((kind for kind in KINDS if kind.includes(node)), None)
        if kind is not None:
            _known[type(node)] = kind
    return kind


def kind_of(node: object, path: str = "") -> Kind:
    """Return the kind of an object.

    Raises:
        UnsupportedModule: if it is of none; names the path.
    """
    kind = find_kind(node)
    if kind is None:
        raise UnsupportedModule(
            f"`{path or '(root)'}` is a {type(node).__module__}.{type(node).__qualname__}, which cannot be stored; "
            "allowed: arrays, numbers, strings, bytes, None, registered pytrees, nnx modules, and objects with "
            "state_dict and load_state_dict"
            + (". What is not state belongs into the static fields of its pytree" if path else "")
        )
    return kind


def capture(module: Any, path: str = "") -> Tree:
    """Return the state of a module, its arrays still shared with it.

    Args:
        module: the module, or a part of one.
        path: where that part is, for errors.

    Raises:
        UnsupportedModule: if a part is nothing that a file can hold; names its path.
        UsageError: if an array was deleted or donated; names its path.
    """
    return kind_of(module, path).capture(module, path)


def mismatches(module: Any, state: Tree) -> list[Mismatch]:
    """Return the random keys in a state that are of another implementation than the module's.

    Args:
        module: the module; one that is open decides on loading.
        state: a tree of the shape that `capture` gives for it.
    """
    return [] if kind_of(module).is_open else [*_foreign_keys(capture(module), state, "")]


def _foreign_keys(own: Tree, saved: Tree, prefix: str) -> Iterator[Mismatch]:
    if isinstance(own, Mapping) and own.keys() == KEY_PARTS:
        if own["impl"] != saved["impl"]:
            sides = (f"random keys of `{own['impl']}`", f"random keys of `{saved['impl']}`")
            yield from (Mismatch(f"{prefix}{part}", "kind", *sides) for part in own)
        return
    for key, child in items(own) or ():
        if not isinstance(own, Growing) or key < len(saved):
            yield from _foreign_keys(child, saved[key], f"{prefix}{key}.")


def restore(module: Any, state: Tree, device: Placement | None = None) -> Any:
    """Put a state into a module.

    Args:
        module: what to restore; every type, dtype and static field is taken from it.
        state: a tree of the shape that `capture` gives for it, with NumPy arrays of any origin, which are not kept.
        device: where all arrays go; None leaves each where the module has it.

    Returns:
        The module, changed in place, or, where its kind `replaces` it, a new one like it.
    """
    restored = _restored(module, state, Target(device, in_place=isinstance(module, dict | list | np.ndarray)))
    if isinstance(module, list):
        module[:] = restored
    elif isinstance(module, dict):
        for key in list(module):
            module[key] = restored[key]
    else:
        return restored
    return module


def _fits_leaf(own: Any, saved: Any) -> bool:
    """Say whether a saved array or number goes into the place of an array, or of a number of NumPy, as it is."""
    if is_array(saved):
        return dtype_name(saved) == dtype_name(own)
    return tuple(own.shape) == () and isinstance(saved, Number) and difference(own, saved) is None


def _restored(node: Any, state: Tree, target: Target) -> Any:
    return kind_of(node).restore(node, state, target)


def _resembling(own: Any, saved: Tree, target: Target) -> Tree:
    """Return a saved tree with what an object's own has of JAX: its arrays, keys and containers, wherever they fit.

    No number becomes another one: an array of another dtype keeps its own.
    """
    if isinstance(own, jax.Array | np.generic):
        if isinstance(saved, Mapping) if is_key(own) else _fits_leaf(own, saved):
            return restore_leaf(own, saved, target)
        return new_leaves(saved, target) if isinstance(own, jax.Array) else saved
    kind, found = kind_of(own), items(saved)
    if not isinstance(kind, _ContainerKind):
        return saved if isinstance(kind, _LeafKind) else kind.restore(own, saved, target)
    if found is None:
        return saved
    container = _opened(own)
    made = {key: _resembling(container.children.get(key), child, target) for key, child in found}
    if made.keys() == container.children.keys():
        return container.like([made[key] for key in container.children])
    return rebuild(saved, list(made.values()))
