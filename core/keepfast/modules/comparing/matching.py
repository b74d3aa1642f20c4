"""Compares what a file holds with the modules it is to be loaded into, entry by entry."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from keepfast.interfaces.backend import Mismatch
from keepfast.interfaces.loading.report import Entry, Status
from keepfast.modules.comparing.naming import sources
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.plain.numbers import converted, difference, is_number, kind_of
from keepfast.tree import Tree, describe, dtype_name, flatten, is_array, map_leaves


@final
@dataclass(frozen=True)
class Match:
    """The outcome of comparing one module with a file.

    Attributes:
        entries: every entry with its status; of an open module that does not fit, what does not.
        state: the tree to restore.
        is_loadable: whether to restore it. Of an open module everything is, or nothing.
    """

    entries: tuple[Entry, ...]
    state: Tree
    is_loadable: bool = True


def match(
    module: str,
    expected: Tree,
    found: FileModule,
    options: LoadOptions,
    *,
    free: bool = False,
    resizable: Container[str] = (),
) -> Match:
    """Compare a module's own tree with a file's.

    Args:
        module: the module's name.
        expected: the tree that the module holds now.
        found: what the file holds.
        options: what counts as a difference.
        free: whether numbers of Python may be of another kind, as the value of a variable may.
        resizable: the paths of arrays that may be of another shape.
    """
    own, theirs = flatten(expected), flatten(found.state)
    at, dropped = sources(own, _renamed(theirs, found))
    entries, chosen = [], {}
    for path, leaf in own.items():
        if path not in at:
            entries.append(Entry(module, path, "missing", expected=describe(leaf)))
            continue
        source = at[path]
        entry = Entry(module, path, "loaded", describe(leaf), describe(theirs[source]), _if_other(source, path))
        status, value = _compare(leaf, theirs[source], cast=options.cast, free=free, any_shape=path in resizable)
        entries.append(replace(entry, status=status, cast=value is not theirs[source]))
        if status == "loaded":
            chosen[path] = value
    used = dropped | set(at.values())
    entries += [Entry(module, path, "extra", found=describe(leaf)) for path, leaf in theirs.items() if path not in used]
    return Match(tuple(entries), map_leaves(lambda path, leaf: chosen.get(path, leaf), expected))


def _if_other(source: str, path: str) -> str | None:
    return source if source != path else None


def _renamed(theirs: Iterable[str], found: FileModule) -> dict[str, str]:
    """Return the file's paths by the names that they stand for; what is called so goes before what is renamed."""
    named: dict[str, str] = {}
    for path in theirs:
        target = found.renamed(path)
        if target not in named or target == path:
            named[target] = path
    return named


def reject(matched: Match, expected: Tree, mismatches: Sequence[Mismatch]) -> Match:
    """Return a match less the entries that the module cannot take, of which it keeps its own.

    Args:
        matched: the outcome of `match`.
        expected: the tree that the module holds now.
        mismatches: what the module says of the tree to restore.
    """
    own, wrong = flatten(expected), {each.path: each for each in mismatches}

    def told(entry: Entry) -> Entry:
        if (each := wrong.get(entry.path)) is None:
            return entry
        return Entry(entry.module, entry.path, each.status, each.expected, each.found, entry.source)

    state = map_leaves(lambda path, leaf: own[path] if path in wrong else leaf, matched.state)
    return Match(tuple(map(told, matched.entries)), state)


def match_open(
    module: str, expected: Tree, found: Tree, mismatches: Sequence[Mismatch] = (), *, cast: bool = False
) -> Match:
    """Compare the tree of a module that decides by itself what it takes with a file's.

    It may lack what the file has, and the reverse; an array that both have must be of one shape and dtype.

    Args:
        module: the module's name.
        expected: the tree that the module holds now.
        found: the tree that the file holds, its arrays NumPy arrays.
        mismatches: what the module says of the file.
        cast: whether another dtype is converted instead of being a difference.
    """
    own, theirs = flatten(expected), flatten(found)
    differing = {
        each.path: Entry(module, each.path, each.status, each.expected, each.found)
        for each in mismatches
        if each.status != "dtype" or not cast
    }
    entries, chosen = [], {}
    for path, leaf in theirs.items():
        status, chosen[path] = _compare_open(own[path], leaf, cast=cast) if path in own else ("loaded", leaf)
        known = describe(own[path]) if path in own else ""
        entries.append(Entry(module, path, status, known, describe(leaf), cast=chosen[path] is not leaf))
    wrong = {entry.path: entry for entry in entries if entry.status != "loaded"} | differing
    state = map_leaves(lambda path, _leaf: chosen[path], found)
    return Match(tuple(wrong.values() if wrong else entries), state, is_loadable=not wrong)


def _compare(own: Any, found: Any, *, cast: bool, free: bool, any_shape: bool = False) -> tuple[Status, Any]:
    """Return whether a file's entry goes into a module's place, or why not, and what goes there."""
    if not (is_array(own) and is_array(found)):
        if not (is_number(own) and is_number(found)):
            return ("loaded" if _same_kind(own, found) else "kind"), found
        status = difference(own, found, free=free)
    elif tuple(own.shape) != tuple(found.shape) and not any_shape:
        return "shape", found
    else:
        status = None if dtype_name(own) == dtype_name(found) else "dtype"
    if status is None or not cast:
        return status or "loaded", found
    made = converted(found, own)
    return ("value", found) if made is None else ("loaded", made)


def _compare_open(own: Any, found: Any, *, cast: bool) -> tuple[Status, Any]:
    """Compare two entries, of which one at least is an array; all else is for the module to judge."""
    if not (is_array(own) or is_array(found)):
        return "loaded", found
    if is_array(own) and is_array(found) and (tuple(own.shape) != tuple(found.shape) or not kind_of(own)):
        return ("loaded" if tuple(own.shape) == tuple(found.shape) else "shape"), found
    both = is_array(own) and (is_array(found) or is_number(found)) and is_number(own) is is_number(found)
    return _compare(own, found, cast=cast, free=True) if both else ("loaded", found)


def _same_kind(leaf: Any, other: Any) -> bool:
    """Say whether two leaves, not both numbers or arrays, can stand for each other."""
    if is_array(leaf) or is_array(other):
        return False
    return leaf is other if leaf is None or other is None else isinstance(other, type(leaf))


def missing_module(module: str, expected: Tree) -> Iterable[Entry]:
    """Yield an entry for everything in a module that a file does not have at all."""
    for path, leaf in flatten(expected).items():
        yield Entry(module, path, "missing", expected=describe(leaf))
