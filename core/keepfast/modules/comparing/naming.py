"""Finds, for each entry of a module, the entry of a file that is meant, whatever wrapped the one or the other.

torch.compile, DataParallel and others put the module that they wrap below a name of their own: ``_orig_mod.0.weight``,
``actor.module.0.weight``. Such a level is seen through wherever only one side has it. What a user calls by such a name
is left alone: there both sides have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""The names below which wrappers have what they wrap."""

AVERAGED = frozenset({"module", "n_averaged"})
"""What PyTorch's AveragedModel has: the averaged module, and how many it was averaged from."""


@final
@dataclass
class _Level:
    """The entries whose names begin alike.

    Attributes:
        below: what is below each next part of a name.
        path: the whole name of the entry that ends here, or None.
    """

    below: dict[str, _Level] = field(default_factory=dict)
    path: str | None = None

    @classmethod
    def of(cls, names: Iterable[tuple[str, str]]) -> _Level:
        """Return the levels of names, each with the path that it stands for."""
        root = cls()
        for name, path in names:
            level = root
            for part in name.split("."):
                level = level.below.setdefault(part, cls())
            level.path = path
        return root

    @property
    def wrapped(self) -> tuple[str, _Level] | None:
        """Return the name and the level below a wrapper, if this looks like one."""
        if len(self.below) == 1 and self.path is None:
            ((name, inner),) = self.below.items()
            if name in WRAPPERS and inner.below:
                return name, inner
        return None


def sources(own: Iterable[str], theirs: Mapping[str, str]) -> tuple[dict[str, str], frozenset[str]]:
    """Return where a file has each entry of a module, and what of it is of no meaning to the module.

    Args:
        own: the module's paths.
        theirs: the file's paths, each by the name that is looked for: itself, or what it was renamed to.

    Returns:
        The file's path by the module's, and those of the file that nothing is lost with.
    """
    own = list(own)
    if theirs.keys() >= set(own):
        return {path: theirs[path] for path in own}, frozenset()
    dropped: set[str] = set()
    pairs = _pairs(_Level.of((path, path) for path in own), _Level.of(theirs.items()), dropped)
    return dict(pairs), frozenset(dropped)


def _pairs(own: _Level, theirs: _Level, dropped: set[str]) -> Iterator[tuple[str, str]]:
    own, theirs = _unwrapped(own, theirs, dropped)
    if own.path is not None and theirs.path is not None:
        yield own.path, theirs.path
    for name, level in own.below.items():
        if name in theirs.below:
            yield from _pairs(level, theirs.below[name], dropped)


def _unwrapped(own: _Level, theirs: _Level, dropped: set[str]) -> tuple[_Level, _Level]:
    """Return both sides without the levels of wrappers that one of them has alone."""
    while own.below.keys() != theirs.below.keys():
        count = theirs.below.get("n_averaged")
        if theirs.below.keys() == AVERAGED and count is not None and count.path and "n_averaged" not in own.below:
            dropped.add(count.path)
            theirs = theirs.below["module"]
        elif own.below.keys() == AVERAGED and "n_averaged" not in theirs.below:
            own = own.below["module"]  # its count is missing then
        elif (wrapped := theirs.wrapped) and _is_meant(own, *wrapped):
            theirs = wrapped[1]
        elif (wrapped := own.wrapped) and _is_meant(theirs, *wrapped):
            own = wrapped[1]
        else:
            break
    return own, theirs


def _is_meant(other: _Level, name: str, inner: _Level) -> bool:
    """Say whether what is below a wrapper's name, or below several, is what the other side has, not the name itself."""
    if name not in other.below:
        return True
    level: _Level | None = inner
    while level is not None and not other.below.keys() <= level.below.keys():
        level = level.wrapped[1] if level.wrapped else None
    return level is not None
