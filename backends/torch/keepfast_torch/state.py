"""State of whatever PyTorch programs keep: captured as a tree of plain containers, and restored from one.

Each kind of object is a row of `KINDS`. Entries are named as PyTorch names them: ``net.0.weight``,
``state.0.exp_avg``, ``param_groups.0.lr``.
"""

from __future__ import annotations

import abc
from collections import OrderedDict, deque
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import nn

from keepfast import Converted, KeepfastError, LoadMismatch, Mismatch, UnsupportedModule
from keepfast.plain.generators import of_torch
from keepfast.tree import Growing, Tree, items, leaves, rebuild, versions_of, with_versions
from keepfast_torch import optimizer, scheduler
from keepfast_torch.containers import like, plain
from keepfast_torch.converting import entry_like, into
from keepfast_torch.modes import conversion_in_place, writable
from keepfast_torch.overlapping import fill, overlaps
from keepfast_torch.sharding.tensors import spread_states
from keepfast_torch.uninitialized import with_stand_ins
from keepfast_torch.wrappers import plain_names, plain_versions, unwrapped

_PACKAGES = frozenset({"torch", "keepfast_torch"})
"""An object with a state dict whose class comes from these, or derives from one that does, is this backend's."""


class Kind(abc.ABC):
    """How one kind of object is captured and restored. A new kind is a class here and a row of `KINDS`."""

    is_open: ClassVar[bool] = False
    """Whether the object takes entries that it does not have yet."""

    @abc.abstractmethod
    def includes(self, module: object) -> bool:
        """Say whether an object is of this kind."""

    def recognizes(self, module: Any) -> bool:
        """Say whether an object of this kind is surely one of PyTorch."""
        return True

    def replaces(self, module: Any) -> bool:
        """Say whether `restore` returns another object."""
        return False

    def mismatches(self, module: Any, state: Tree) -> Sequence[Mismatch]:
        """Return what in a file's state an open object cannot take."""
        return ()

    @abc.abstractmethod
    def capture(self, module: Any) -> Tree:
        """Return the object's state, tensors still shared with it."""

    @abc.abstractmethod
    def restore(self, module: Any, state: Tree, device: Any) -> Any:
        """Put a state into the object, and return it or what replaces it."""


@final
class _TensorKind(Kind):
    """A tensor or parameter, overwritten where it is."""

    def includes(self, module: object) -> bool:
        return isinstance(module, torch.Tensor)

    def capture(self, module: torch.Tensor) -> Tree:
        return plain(module)

    def restore(self, module: torch.Tensor, state: Tree, device: Any) -> torch.Tensor:
        _overwrite(module, state, device, "the tensor")
        return module


def _overwrite(tensor: torch.Tensor, saved: Any, device: Any, name: str) -> None:
    """Give a tensor the saved values, moved to a device first if there is one; whoever holds it sees them."""
    values = like(tensor, saved, "cpu", closed=True) if saved is not tensor else tensor
    if not isinstance(values, torch.Tensor) or values.shape != tensor.shape:
        found = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise LoadMismatch(f"{name} has the shape {tuple(tensor.shape)}, the file has {found}")
    with torch.no_grad(), writable(tensor):
        if device is not None:
            tensor.data = tensor.data.to(device)
        if overlaps(tensor):
            fill(tensor, values)
        else:
            tensor.copy_(values)


@final
class _GeneratorKind(Kind):
    """A random generator of one's own."""

    def includes(self, module: object) -> bool:
        return isinstance(module, torch.Generator)

    def capture(self, module: torch.Generator) -> Tree:
        return module.get_state()

    def restore(self, module: torch.Generator, state: Tree, device: Any) -> torch.Generator:
        saved = like(None, state)
        of_torch(saved.numpy())
        module.set_state(saved)
        return module


@final
class _ModuleKind(Kind):
    """A module, with its parameters, buffers and extra state."""

    def includes(self, module: object) -> bool:
        return isinstance(module, nn.Module)

    def capture(self, module: nn.Module) -> Tree:
        inner = unwrapped(module)
        state = inner.state_dict()
        with_stand_ins(state)
        names = plain_names(inner, state)
        if not names:
            return plain(state)
        made = plain(OrderedDict((names[key], value) for key, value in state.items()))
        return with_versions(made, plain_versions(inner, versions_of(state) or {}))

    def restore(self, module: nn.Module, state: Tree, device: Any) -> nn.Module:
        inner = unwrapped(module)
        if device is not None:
            with conversion_in_place():
                inner.to(device)
        if isinstance(state, Converted):
            with writable(*inner.parameters(), *inner.buffers()), into(inner, state) as given:
                _load(inner, given)
            return module
        own = inner.state_dict()
        real = {name: key for key, name in plain_names(inner, own).items()}
        # Parameters and buffers are copied to their places by PyTorch; extra state is handed over as it is.
        saved = {}
        for name, value in state.items():
            key = real.get(name, name)
            saved[key] = entry_like(key, own.get(key), value)
        own.clear()
        own.update(saved)  # into the same dictionary, for it carries the versions of the modules
        with writable(*inner.parameters(), *inner.buffers()):
            _fill_overlapping(inner, own)
            _load(inner, own)
        return module


def _fill_overlapping(module: nn.Module, state: dict[str, Any]) -> None:
    """Write to the tensors of a module to which PyTorch does not, and put themselves into the state that it loads."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        saved = state.get(name)
        if isinstance(saved, torch.Tensor) and saved.shape == tensor.shape and overlaps(tensor):
            fill(tensor, saved)
            state[name] = tensor


@final
class _OptimizerKind(Kind):
    """An optimizer; its state goes to the devices of its parameters."""

    is_open = True

    def includes(self, module: object) -> bool:
        return isinstance(module, torch.optim.Optimizer)

    def capture(self, module: torch.optim.Optimizer) -> Tree:
        return plain(module.state_dict())

    def mismatches(self, module: torch.optim.Optimizer, state: Tree) -> Sequence[Mismatch]:
        return optimizer.mismatches(module, state)

    def restore(self, module: torch.optim.Optimizer, state: Tree, device: Any) -> torch.optim.Optimizer:
        if found := optimizer.mismatches(module, state):
            listing = "".join(f"\n  {mismatch}" for mismatch in found)
            raise LoadMismatch(f"the file's state does not fit this {type(module).__name__}; nothing loaded:{listing}")
        parameters = [each for group in module.param_groups for each in group["params"]]
        _load(module, spread_states(parameters, like(module.state_dict(), state)))
        return module


@final
class _SchedulerKind(Kind):
    """A learning-rate scheduler, with what it holds of functions, objects and other schedulers."""

    is_open = True

    def includes(self, module: object) -> bool:
        return scheduler.is_scheduler(module) and _keeps_itself(module)

    def capture(self, module: Any) -> Tree:
        return scheduler.capture(module)

    def mismatches(self, module: Any, state: Tree) -> Sequence[Mismatch]:
        return scheduler.mismatches(module, state)

    def restore(self, module: Any, state: Tree, device: Any) -> Any:
        _load(module, scheduler.resembling(module.state_dict(), state, device))
        return module


@final
class _ScalerKind(Kind):
    """A GradScaler. A disabled one has nothing to keep, so that an enabled one loses nothing by its state."""

    is_open = True

    def includes(self, module: object) -> bool:
        return isinstance(module, torch.amp.GradScaler)

    def capture(self, module: torch.amp.GradScaler) -> Tree:
        return plain(module.state_dict())

    def restore(self, module: torch.amp.GradScaler, state: Tree, device: Any) -> torch.amp.GradScaler:
        if state != {}:
            _load(module, like(module.state_dict(), state, device))
        return module


@final
class _StatefulKind(Kind):
    """Whatever else has ``state_dict`` and ``load_state_dict``: an object of the user's."""

    is_open = True

    def includes(self, module: object) -> bool:
        return _keeps_itself(module)

    def recognizes(self, module: Any) -> bool:
        packages = {kind.__module__.partition(".")[0] for kind in type(module).__mro__}
        return not packages.isdisjoint(_PACKAGES) or _has_tensors(module.state_dict())

    def capture(self, module: Any) -> Tree:
        return plain(module.state_dict())

    def restore(self, module: Any, state: Tree, device: Any) -> Any:
        _load(module, like(module.state_dict(), state, device))
        return module


def _keeps_itself(module: object) -> bool:
    calls = (getattr(module, "state_dict", None), getattr(module, "load_state_dict", None))
    return all(map(callable, calls)) and not isinstance(module, type)


def _load(module: Any, state: Any) -> None:
    """Call ``load_state_dict``, and say whose it was where it refuses."""
    try:
        module.load_state_dict(state)
    except KeepfastError:
        raise
    except Exception as error:
        raise LoadMismatch(f"{type(module).__qualname__} cannot load the file's state: {error}") from error


@final
class _ContainerKind(Kind):
    """A dictionary, list or tuple of tensors, in which tensors are overwritten and all else, and tuples, replaced."""

    def includes(self, module: object) -> bool:
        return isinstance(module, MutableMapping | list | tuple)

    def recognizes(self, module: Any) -> bool:
        return _has_tensors(module)

    def replaces(self, module: Any) -> bool:
        return isinstance(module, tuple)

    def capture(self, module: Any) -> Tree:
        return plain(module)

    def restore(self, module: Any, state: Tree, device: Any) -> Any:
        if isinstance(module, tuple):
            return rebuild(module, [like(*pair, device, closed=True) for pair in zip(module, state, strict=True)])
        return _restored(module, state, device, "")


def _has_tensors(tree: Tree) -> bool:
    return any(
        isinstance(leaf, torch.Tensor) or (isinstance(leaf, deque) and any(map(_has_tensors, leaf)))
        for _, leaf in leaves(tree)
    )


@final
class _DequeKind(Kind):
    """A deque of tensors, or of trees of them, which takes as many entries as the file has and its length allows."""

    def includes(self, module: object) -> bool:
        return isinstance(module, deque)

    def recognizes(self, module: Any) -> bool:
        return _has_tensors(module)

    def capture(self, module: deque[Any]) -> Tree:
        return Growing(plain(each, str(number)) for number, each in enumerate(module))

    def restore(self, module: deque[Any], state: Tree, device: Any) -> Any:
        own = list(module) or [None]
        restored = [like(own[min(number, len(own) - 1)], each, device) for number, each in enumerate(state)]
        module.clear()
        module.extend(restored)
        return module


def _restored(own: Any, saved: Tree, device: Any, path: str) -> Any:
    """Return what belongs in the place of a part of a container: that part itself wherever it can be changed."""
    if isinstance(own, torch.Tensor):
        _overwrite(own, saved, device, f"`{path}`")
        return own
    children = items(own)
    if children is None:
        return like(own, saved, device, closed=True)
    parts = {key: (child, saved[key], f"{path}.{key}" if path else str(key)) for key, child in children}
    restored = {key: _restored(child, theirs, device, below) for key, (child, theirs, below) in parts.items()}
    if isinstance(own, MutableMapping):
        own.update(restored)
    elif isinstance(own, list):
        own[:] = restored.values()
    else:
        return rebuild(own, list(restored.values()))
    return own


KINDS: tuple[Kind, ...] = (
    _TensorKind(),
    _GeneratorKind(),
    _ModuleKind(),
    _OptimizerKind(),
    _SchedulerKind(),
    _ScalerKind(),
    _StatefulKind(),
    _DequeKind(),
    _ContainerKind(),
)
"""Every kind of object, asked in this order."""


def find_kind(module: object) -> Kind | None:
    """Return the kind of an object, or None for one that has no state to capture."""
    return next((kind for kind in KINDS if kind.includes(module)), None)


def kind_of(module: object) -> Kind:
    """Return the kind of an object.

    Raises:
        UnsupportedModule: if it is of none.
    """
    kind = find_kind(module)
    if kind is None:
        raise UnsupportedModule(
            f"a {type(module).__module__}.{type(module).__qualname__} has no state that PyTorch's backend can capture; "
            "allowed: modules, optimizers, learning-rate schedulers, GradScaler, Generator, tensors, dicts, lists and "
            "tuples of tensors, and objects with `state_dict` and `load_state_dict`"
        )
    return kind
