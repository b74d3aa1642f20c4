"""Gives what a file has the names that a module has for it, also where the module does not know the entry yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from keepfast.modules.comparing.naming import WRAPPERS
from keepfast.modules.options import FileModule
from keepfast.tree import Versions


def own_names(pairs: Mapping[str, str], theirs: Collection[str], found: FileModule) -> dict[str, str]:
    """Return, for each path of a file, the name that a module has for it, or would have.

    Args:
        pairs: the file's path by the module's own, of the entries that both have.
        theirs: the file's paths.
        found: what the file holds, and how it was renamed.
    """
    own = {path: name for name, path in pairs.items()}
    levels = _levels(pairs, theirs, found)
    return {path: own.get(path) or _named(found.renamed(path), levels) for path in theirs}


def own_versions(
    versions: Versions | None, pairs: Mapping[str, str], theirs: Collection[str], found: FileModule
) -> Versions | None:
    """Return the versions that a file tells by the names that a module has for its parts."""
    if versions is None:
        return None if not found.is_foreign else {}
    levels = _levels(pairs, theirs, found)
    # Of two that have one name then, a wrapper and what it wraps, the one below counts.
    return {_named(found.renamed(path), levels): versions[path] for path in sorted(versions, key=len)}


def _levels(pairs: Mapping[str, str], theirs: Collection[str], found: FileModule) -> dict[str, str]:
    """Return the own name of each level of names that the file has."""
    levels: dict[str, str] = {}
    for own, path in pairs.items():
        one, other = found.renamed(path), own
        while one or other:
            (one, _, last), (other, _, own_last) = one.rpartition("."), other.rpartition(".")
            if last != own_last or one in levels:
                break
            levels[one] = other
    if not pairs:
        first = {path.partition(".")[0] for path in theirs}
        return {first.pop(): ""} if len(first) == 1 and first <= WRAPPERS else {}
    return levels


def _named(path: str, levels: Mapping[str, str]) -> str:
    level = path
    while level not in levels and level:
        level = level.rpartition(".")[0]
    rest = path[len(level) :].removeprefix(".")
    return ".".join(part for part in (levels.get(level, level), rest) if part)
