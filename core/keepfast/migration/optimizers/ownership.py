"""Whose an optimizer's entries are: which parameter of which network each of them belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar, final

from keepfast.migration.layers import COLLECTIONS, Layer
from keepfast.migration.roles import told_by

Shape = tuple[int, ...]
_Found = TypeVar("_Found")

_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked", "mean", "var"})


@final
class NotKnownError(Exception):
    """It is not known whose an optimizer's entries are; says why."""


@final
@dataclass(frozen=True)
class Parameter:
    """A parameter of a network.

    Attributes:
        name: its full path, the module's name first, without the names of collections.
        layer: the layer that it is part of.
        entry: its name below that.
    """

    name: str
    layer: Layer
    entry: str

    @property
    def shape(self) -> Shape:
        """Return its shape."""
        return tuple(self.layer.entries[self.entry].shape)

    @property
    def units(self) -> tuple[str, ...]:
        """Return what it is part of: its module, and the first two parts of that."""
        parts = self.name.split(".")[:-1]
        start = 1 if self.layer.module else 0
        return tuple(".".join(parts[: start + size]) for size in range(3))


def plain(path: str) -> str:
    """Return a path without the names of collections and wrappers."""
    return ".".join(part for part in path.split(".") if part not in COLLECTIONS)


def parameters_of(layers: Iterable[Layer], order: Mapping[str, Sequence[str]]) -> list[Parameter]:
    """Return what is trained of layers, in the order in which their modules have it.

    Args:
        layers: the layers.
        order: by the name of a module, the paths of its entries in their order.
    """
    found = [
        (layer.module, path, Parameter(".".join(part for part in (layer.module, plain(path)) if part), layer, entry))
        for layer in layers
        for entry, path in layer.paths.items()
        if _is_trained(layer, entry)
    ]
    places = {module: {path: place for place, path in enumerate(paths)} for module, paths in order.items()}
    modules = list(order)
    found.sort(key=lambda each: (modules.index(each[0]), places[each[0]][each[1]]))
    return [parameter for _, _, parameter in found]


def _is_trained(layer: Layer, entry: str) -> bool:
    kinds = {rule.kind for rule in layer.rules}
    if "Normaliser" in kinds or layer.entries[entry].dtype.kind not in "fV":
        return False
    return not ("BatchNorm" in kinds and entry in _STATISTICS)


def by_name(shapes: Mapping[str, Shape], parameters: Sequence[Parameter], hint: str) -> dict[str, Parameter]:
    """Return the parameters that an optimizer calls by names, which may lack how the names of the networks begin.

    Args:
        shapes: the names, each with the shape of what is kept; () where none is.
        parameters: of the networks.
        hint: what the optimizer is called.

    Raises:
        NotKnownError: if no network has them, or several have.
    """
    known = {parameter.name: parameter for parameter in parameters}
    wanted = {name: plain(name) for name in shapes}
    first = next(iter(wanted.values()))
    prefixes = [name.removesuffix(first) for name in known if name == first or name.endswith(f".{first}")]
    fitting = []
    for prefix in dict.fromkeys(prefixes):
        found = {name: known.get(prefix + rest) for name, rest in wanted.items()}
        if all(each is not None and shapes[name] in ((), each.shape) for name, each in found.items()):
            fitting.append((prefix, {name: each for name, each in found.items() if each is not None}, 0))
    return _only(fitting, hint, "of these names")


def by_order(shapes: Sequence[Shape | None], parameters: Sequence[Parameter], hint: str) -> list[Parameter]:
    """Return the parameters that an optimizer numbers, in the order of the networks that have them.

    Args:
        shapes: of what is kept for each; None where nothing is.
        parameters: of the networks, in their order.
        hint: what the optimizer is called.

    Raises:
        NotKnownError: if no networks have parameters of these shapes in this order, or several have.
    """
    size = len(shapes)
    found = []
    for start in range(len(parameters) - size + 1):
        window = list(parameters[start : start + size])
        if all(shape is None or shape == each.shape for shape, each in zip(shapes, window, strict=True)):
            before, behind = parameters[start - 1 : start], parameters[start + size : start + size + 1]
            if whole := _wholeness(window, before, behind):
                units = dict.fromkeys(each.units[0] or each.units[1] for each in window)
                found.append((" ".join(units), window, whole))
    return _only(found, hint, "of these shapes in this order")


def _wholeness(window: Sequence[Parameter], before: Sequence[Parameter], behind: Sequence[Parameter]) -> int:
    """Return how whole the networks are that parameters are of: 3 for modules, less for parts of one, 0 for pieces."""
    for depth in range(3):
        ends = [*pairwise([*before, window[0]]), *pairwise([window[-1], *behind])]
        if all(one.units[depth] != other.units[depth] for one, other in ends):
            return 3 - depth
    return 0


def _only(found: Sequence[tuple[str, _Found, int]], hint: str, what: str) -> _Found:
    """Return the one of several networks that an optimizer belongs to, as its name tells."""
    if not found:
        raise NotKnownError(f"no network has parameters {what}")
    told = told_by(hint)

    def rank(each: tuple[str, _Found, int]) -> tuple[int, bool, int]:
        own = told_by(each[0])
        return len(told & own), ("target" in told) >= ("target" in own), each[2]

    best = max(map(rank, found))
    chosen = [each for each in found if rank(each) == best]
    if len(chosen) > 1:
        names = ", ".join(f"`{name.rstrip('.') or '(root)'}`" for name, _, _ in chosen)
        raise NotKnownError(f"several networks have parameters {what}: {names}")
    return chosen[0][1]
