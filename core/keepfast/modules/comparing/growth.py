"""Growth: tells at the first checkpoint of a run what a fresh object could not take back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

from keepfast._system.warnings import warn
from keepfast.modules.comparing.adopting import is_of_python
from keepfast.modules.comparing.matching import match
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.modules.parts import Place
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
        self._told = False

    def note(self, modules: Iterable[RegisteredModule]) -> None:
        """Take note of modules that are new, as they are now."""
        for leaf in _closed(modules):
            known = self._fresh.get(leaf.name)
            if not self._told and (known is None or known[0] != _identity(leaf)):
                self._fresh[leaf.name] = _identity(leaf), _outlined(leaf.capture()), is_of_python(leaf.value)

    def tell(self, modules: Iterable[RegisteredModule]) -> None:
        """Warn, once, of modules that have another structure by now, so that what is stored cannot be resumed."""
        if self._told:
            return
        self._told = True
        for leaf in _closed(modules):
            known = self._fresh.get(leaf.name)
            if known is not None and known[0] == _identity(leaf) and (changed := _changed(leaf, *known[1:])):
                warn(
                    f"`{leaf.name}` has another structure than when it was registered ({changed}), so a fresh one, "
                    "made as at the start, could not take its checkpoints back. Register an array, a dict or a list "
                    f'that grows as keepfast.attribute(owner, "{leaf.name}"), or make it as large from the start'
                )
        self._fresh.clear()


def _identity(leaf: RegisteredModule) -> int:
    """Return a number that is another one once another object is registered under the same name."""
    return id(leaf.module.owner) if isinstance(leaf.module, Place) else id(leaf.module)


def _closed(modules: Iterable[RegisteredModule]) -> Iterable[RegisteredModule]:
    """Return the modules by themselves that do not decide what they take."""
    return [leaf for module in modules for leaf in module.leaves() if leaf.assemble is None and not leaf.is_open]


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
