"""Growth: tells at the first checkpoint of a run what a fresh object could not take back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

from keepfast._system.warnings import warn
from keepfast.modules.comparing.adopting import is_of_python
from keepfast.modules.comparing.matching import match
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.modules.parts import CONTAINERS, Place
from keepfast.modules.registered import RegisteredModule
from keepfast.plain.numbers import kind_of
from keepfast.tree import Tree, is_array, leaves, map_leaves


@final
@dataclass(frozen=True)
class _Outline:
    """What stands for an array where only its shape and dtype count."""

    shape: tuple[int, ...]
    dtype: Any


def _outlined(tree: Tree) -> Tree:
    return map_leaves(lambda _, leaf: _Outline(tuple(leaf.shape), leaf.dtype) if is_array(leaf) else leaf, tree)


@final
class Growth:
    """Knows of what structure modules were when they were registered."""

    def __init__(self) -> None:
        self._fresh: dict[str, tuple[int, Tree, bool]] = {}
        self._without: dict[str, int] = {}
        self._told = False

    def note(self, modules: Iterable[RegisteredModule]) -> None:
        """Take note of modules that are new, as they are now."""
        modules = list(modules)
        if not self._told:
            self._without |= {each.name: _identity(each) for each in _nodes(modules) if each.value is None}
        for leaf in _closed(modules):
            known = self._fresh.get(leaf.name)
            if not self._told and (known is None or known[0] != _identity(leaf)):
                self._fresh[leaf.name] = _identity(leaf), _outlined(leaf.capture()), is_of_python(leaf.value)

    def tell(self, modules: Iterable[RegisteredModule]) -> None:
        """Warn, once, of modules that have another structure by now, so that what is stored cannot be resumed."""
        if self._told:
            return
        self._told = True
        modules = list(modules)
        for each in _nodes(modules):
            if self._without.get(each.name) == _identity(each) and _is_object(each):
                warn(
                    f"`{each.name}` was None when it was registered and is a {type(each.value).__qualname__} now, "
                    "which no file makes: a fresh one, None as at the start, would get its state in its place. "
                    "Make it before it is registered"
                )
        for leaf in _closed(modules):
            known = self._fresh.get(leaf.name)
            if known is not None and known[0] == _identity(leaf) and (changed := _changed(leaf, *known[1:])):
                warn(
                    f"`{leaf.name}` has another structure than when it was registered ({changed}), so a fresh one, "
                    "made as at the start, could not take its checkpoints back. Register an array, a dict or a list "
                    f'that grows as keepfast.attribute(owner, "{leaf.name}"), or make it as large from the start'
                )
        self._fresh.clear()
        self._without.clear()


def _identity(leaf: RegisteredModule) -> int:
    """Return a number that is another one once another object is registered under the same name."""
    return id(leaf.module.owner) if isinstance(leaf.module, Place) else id(leaf.module)


def _nodes(modules: Iterable[RegisteredModule]) -> Iterator[RegisteredModule]:
    """Yield modules, and all that they are made of."""
    for module in modules:
        yield module
        yield from _nodes(module.parts.values())


def _is_object(module: RegisteredModule) -> bool:
    """Say whether a module is, or has in it, what a file cannot make of itself: an object of some class."""
    value = module.value
    return module.assemble is not None or not (
        is_array(value)
        or type(value) in CONTAINERS
        or isinstance(value, int | float | complex | str | bytes | set | None)
    )


def _closed(modules: Iterable[RegisteredModule]) -> Iterable[RegisteredModule]:
    """Return the modules by themselves that do not decide what they take."""
    return [
        leaf
        for module in modules
        for leaf in module.leaves()
        if leaf.assemble is None and not (leaf.is_open or isinstance(leaf.value, deque))
    ]


def _changed(leaf: RegisteredModule, fresh: Tree, was_plain: bool) -> str:
    """Return in what a fresh module would differ from what is stored now, in a few words.

    Args:
        leaf: the module.
        fresh: its tree when it was registered, in outline.
        was_plain: whether all in it was of Python or NumPy then.
    """
    now = _outlined(leaf.capture())
    own = leaf.fitted(fresh, now, was_plain=was_plain)
    resizable, wholes = leaf.resizable(own), leaf.backend.wholes(leaf.value)
    options = LoadOptions(cast=True)
    matched = match(leaf.name, own, FileModule(now), options, free=True, resizable=resizable, wholes=wholes)
    kept = {path for path, each in leaves(now) if isinstance(each, _Outline) or kind_of(each) or each is None}
    wrong = [
        entry
        for entry in matched.entries
        if entry.status in ("missing", "shape", "kind") or (entry.status == "extra" and entry.path in kept)
    ]
    listed = "; ".join(map(str, wrong[:3]))
    return f"{listed}; and {len(wrong) - 3} more" if len(wrong) > 3 else listed
