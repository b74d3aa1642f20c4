"""Modules by the places that hold them, and modules that are made of several: dicts of them, and chosen attributes."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np

from keepfast._system.arguments.guarding import guarded
from keepfast.errors import UnsupportedModule, as_given, nearest
from keepfast.memories.memory import Memory
from keepfast.plugins.backends import recognize
from keepfast.tree import is_array

Module: TypeAlias = Any
"""A network, optimizer, train state, pytree, tensor, memory, number, environment, or an `Attribute` or `Attributes`."""


@final
@dataclass(frozen=True)
class Attribute:
    """A module that its owner replaces instead of changing it: a TrainState, an optax state, a number.

    Attributes:
        owner: the object that has it.
        name: the attribute's name.
        is_resized: whether arrays may be of another shape in a file, as those that grow are.
    """

    owner: object
    name: str
    is_resized: bool = True

    @property
    def value(self) -> Any:
        """Return what the owner holds now."""
        return getattr(self.owner, self.name)

    def put(self, value: Any) -> None:
        """Give the owner another value; none where it is the very same, so that nothing is set that was not."""
        if value is not self.value:
            setattr(self.owner, self.name, value)


@final
@dataclass(frozen=True)
class Item:
    """A module in a dict or list, which is put there anew where it is replaced.

    Attributes:
        owner: the dict or list.
        key: its key there.
        is_resized: whether arrays may be of another shape in a file, as where the dict or list is an attribute.
    """

    owner: Any
    key: Any
    is_resized: bool = False

    @property
    def value(self) -> Any:
        """Return what is there now."""
        return self.owner[self.key]

    def put(self, value: Any) -> None:
        """Put another value there."""
        if value is not self.value:
            self.owner[self.key] = value


Place: TypeAlias = Attribute | Item


@final
@dataclass(frozen=True)
class Attributes:
    """The attributes of an object that are its state."""

    owner: object
    names: tuple[str, ...]


@guarded
def attribute(owner: object, name: str) -> Attribute:
    """Name a module by the attribute that holds it, so that its present value is saved and a restored one put there.

    Args:
        owner: the object whose attribute is replaced as training goes on.
        name: the attribute's name.

    Raises:
        UnsupportedModule: if the owner has no such attribute.

    Example:
        ``agent.checkpoint_modules["policy"] = keepfast.attribute(agent, "train_state")``
    """
    _check(owner, name)
    return Attribute(owner, name)


@guarded
def attributes(owner: object, *names: str) -> Attributes:
    """Name what is the state of an object of any class: some of its attributes, of any kind that can be kept.

    Args:
        owner: the object, which stays; its attributes are changed in place where they can be, and else replaced.
        *names: their names.

    Raises:
        UnsupportedModule: if the owner has no attribute of a name, or none is named.

    Example:
        ``experiment.register(obs_rms=keepfast.attributes(env.obs_rms, "mean", "var", "count"))``
    """
    if not names:
        raise UnsupportedModule(
            f"no attribute is named; say which ones are the state of the {type(owner).__qualname__}{_offered(owner)}"
        )
    for name in names:
        _check(owner, name)
    return Attributes(owner, names)


def _check(owner: object, name: str) -> None:
    if not isinstance(name, str) or not hasattr(owner, name):
        told = name if isinstance(name, str) else as_given(name)
        close = nearest(told, _names(owner))
        raise UnsupportedModule(
            f"a {type(owner).__qualname__} has no attribute `{told}`; set it before registering it"
            + (f", or did you mean `{close}`?" if close else "")
        )


def _names(owner: object) -> list[str]:
    """Return the names of the attributes that an object itself has."""
    return [name for name in getattr(owner, "__dict__", {}) if not name.startswith("__")]


def _offered(owner: object) -> str:
    names = _names(owner)[:8]
    return f"; it has: {', '.join(names)}" if names else ""


def advice(module: object) -> str:
    """Return how an object is registered whose state is some of its attributes: the end of an error about it."""
    ranked = sorted((_rank(getattr(module, name, None)), number, name) for number, name in enumerate(_names(module)))
    kept = [name for rank, _, name in ranked if rank < _NO_STATE and not name.startswith("_")][:3]
    listed = ", ".join(f'"{name}"' for name in kept or ["mean", "var", "count"])
    return f"Where some of its attributes are its state, register keepfast.attributes(it, {listed})"


_NO_STATE = 2


def _rank(value: object) -> int:
    """Return how likely an attribute is to be state: arrays and the like first, then numbers."""
    if is_array(value) or known_attributes(value) is not None or isinstance(value, deque):
        return 0
    return 1 if isinstance(value, int | float) and not isinstance(value, bool) else _NO_STATE


@final
@dataclass(frozen=True)
class _Known:
    """An object of another library that keeps its state in plain attributes.

    Attributes:
        told_by: the attributes that it has itself.
        kept: those of its attributes that are its state; one of them may be missing where it is not needed.
        beside: what else it may have for it to be told by so little; anything if None.
    """

    told_by: frozenset[str]
    kept: tuple[str, ...]
    beside: frozenset[str] | None = None


KNOWN: Mapping[str, _Known] = {
    "RunningMeanStd of Gymnasium, stable-baselines3, Tianshou and others": _Known(
        frozenset({"mean", "var", "count"}),
        ("mean", "var", "count"),
        frozenset({"clip", "clip_max", "dtype", "eps", "epsilon", "shape"}),
    ),
    "VecNormalize of stable-baselines3": _Known(
        frozenset({"norm_obs", "ret_rms", "returns", "venv"}), ("obs_rms", "ret_rms", "returns")
    ),
}
"""A further one is a row here."""


def known_attributes(module: object) -> Attributes | None:
    """Return the attributes that are the state of an object of another library, or None where it is none of `KNOWN`."""
    own = getattr(module, "__dict__", None)
    if not own or isinstance(module, type) or keeps_itself(type(module)):
        return None
    for known in KNOWN.values():
        told = known.told_by <= own.keys() and (known.beside is None or own.keys() <= known.told_by | known.beside)
        if told and recognize(module) is None:  # a framework's own module of such parts is that framework's
            return Attributes(module, tuple(name for name in known.kept if name in own))
    return None


def parts_of(module: Module) -> tuple[Callable[[list[Any]], Any], dict[str | int, Module]] | None:
    """Return what a module that is made of others is made of, or None where it is one by itself.

    Returns:
        What makes a tree of the trees of the parts, and each part by its key: the place that holds it, or, in a
        tuple, the part itself.
    """
    value = module.value if isinstance(module, Attribute | Item) else module
    chosen = value if isinstance(value, Attributes) else known_attributes(value)
    if chosen is not None:
        is_resized = chosen is value  # statistics of a known class are of an environment, whose spaces have one shape
        return _dict_of(chosen.names), {name: Attribute(chosen.owner, name, is_resized) for name in chosen.names}
    if type(value) not in CONTAINERS or not any(map(_is_apart, _within(value))):
        return None
    is_resized = isinstance(module, Attribute | Item) and module.is_resized
    if isinstance(value, dict):
        keys = _checked_keys(value)
        return _dict_of(keys), {key: _placed(value, own, is_resized) for key, own in zip(keys, value, strict=True)}
    if isinstance(value, tuple):
        return tuple, dict(enumerate(value))
    return list, {number: _placed(value, number, is_resized) for number in range(len(value))}


def _placed(owner: Any, key: Any, is_resized: bool) -> Module:
    """Return what a dict or list holds by its place there, unless it is a place itself."""
    part = owner[key]
    return part if isinstance(part, Attribute | Attributes) else Item(owner, key, is_resized)


def _dict_of(keys: Any) -> Callable[[list[Any]], dict[Any, Any]]:
    return lambda trees: dict(zip(keys, trees, strict=True))


CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, tuple)
"""The containers that are Python's own."""

_APART = (
    *(Attribute, Attributes, Memory, deque, set, frozenset),
    *(np.random.Generator, np.random.BitGenerator, random.Random),
)


def _within(node: Any) -> Iterator[Any]:
    """Yield what is in nested containers of Python."""
    for child in node.values() if isinstance(node, dict) else node:
        if type(child) in CONTAINERS:
            yield from _within(child)
        else:
            yield child


def is_variable(value: object) -> bool:
    """Say whether a value is a number of Python or a container of such, whose type nobody but itself has fixed."""
    return type(value) in (int, float, complex, *CONTAINERS)


_never_apart: set[type] = {bool, int, float, complex, str, bytes, type(None), np.ndarray}


def _is_apart(node: object) -> bool:
    """Say whether an object is a module by itself, also where it is in a container: not a mere leaf of it."""
    kind = type(node)
    if kind in _never_apart:
        return False
    if isinstance(node, _APART) or keeps_itself(kind) or known_attributes(node) is not None:
        return True
    if not hasattr(node, "__dict__"):
        _never_apart.add(kind)
    return False


def keeps_itself(kind: type) -> bool:
    """Say whether objects of a class give and take their state by calls of their own."""
    pairs = (("state_dict", "load_state_dict"), ("get_state", "set_state"))
    return any(all(callable(getattr(kind, name, None)) for name in pair) for pair in pairs)


def _checked_keys(module: Mapping[Any, Any]) -> list[str | int]:
    keys = [key.item() if isinstance(key, np.integer) else key for key in module]
    for key in keys:
        if not isinstance(key, str | int) or isinstance(key, bool) or key == "":
            raise UnsupportedModule(
                f"a dict of modules has the key {as_given(key)} ({type(key).__qualname__}); allowed: integers, and "
                "strings that are not empty"
            )
    if len({str(key) for key in keys}) != len(keys):
        raise UnsupportedModule(f"two keys of a dict of modules read the same: {', '.join(map(repr, keys))}")
    return keys


_DESCRIPTION_LENGTH = 4000
"""Characters of a model's own description that are kept: structures, not numbers."""


def description(model: Any) -> Any:
    """Return what a model says of itself: its configuration, or the structure it prints."""
    configuration = getattr(model, "cfg", None)
    if isinstance(configuration, Mapping):
        return dict(configuration)
    structure = getattr(model, "module", model)  # what a holder of module and variables holds
    return repr(structure)[:_DESCRIPTION_LENGTH]
