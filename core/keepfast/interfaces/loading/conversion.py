"""Conversion: what a module makes of a file of an earlier version, or with other names, before the two are compared."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from keepfast.tree import Tree, Versions


@final
@dataclass(frozen=True)
class FileEntries:
    """What a file has for a module, by the names that the module has for it, as far as both know them.

    Attributes:
        entries: each entry: an array, a number, or a tree that the module takes as it is.
        versions: the versions that the file tells of the module's parts; empty where it tells none, and None where it
            is to be taken as one of today.
    """

    entries: Mapping[str, Tree]
    versions: Versions | None = None


@final
@dataclass(frozen=True)
class Conversion:
    """The outcome of a module's own conversion.

    Attributes:
        own: what the module has places for, by path. What it can do without is not among it.
        found: what there is to be put into them, and what the module has no place for.
        sources: by path, the entry of the file that was converted, where it has another name.
    """

    own: Mapping[str, Any]
    found: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)


@final
class Converted(OrderedDict[str, Tree]):
    """A state to restore, of what a conversion found; the module gets the file's own entries to convert them again.

    Args:
        state: what goes into each place.
        file: what the file has.
    """

    def __init__(self, state: Mapping[str, Tree] | Iterable[tuple[str, Tree]], file: FileEntries | None = None) -> None:
        super().__init__(state)
        self.file = file or FileEntries({})
