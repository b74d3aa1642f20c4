"""Compares what a file holds with the modules it is to be loaded into, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from keepfast.interfaces.backend import Mismatch
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.modules.report import Entry
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


def match(module: str, expected: Tree, found: FileModule, options: LoadOptions) -> Match:
    """Compare a module's own tree with a file's.

    Args:
        module: the module's name.
        expected: the tree that the module holds now.
        found: what the file holds.
        options: what counts as a difference.
    """
    own, theirs = flatten(expected), flatten(found.state)
    sources = _sources(own, theirs, found)
    entries = [_compare(module, path, own[path], sources, theirs, options) for path in own]
    entries += [
        Entry(module, path, "extra", found=describe(theirs[path])) for path in theirs if path not in sources.values()
    ]
    chosen = {
        entry.path: _converted(theirs[sources[entry.path]], own[entry.path], options)
        for entry in entries
        if entry.status == "loaded"
    }
    return Match(tuple(entries), map_leaves(lambda path, leaf: chosen.get(path, leaf), expected))


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


def match_open(module: str, expected: Tree, found: Tree, mismatches: Sequence[Mismatch] = ()) -> Match:
    """Compare the tree of a module that decides by itself what it takes with a file's.

    It may lack what the file has, and the reverse; an array that both have must be of one shape.

    Args:
        module: the module's name.
        expected: the tree that the module holds now.
        found: the tree that the file holds, its arrays NumPy arrays.
        mismatches: what the module says of the file.
    """
    own, theirs = flatten(expected), flatten(found)
    differing = {each.path: Entry(module, each.path, each.status, each.expected, each.found) for each in mismatches}
    entries = [_compare_open(module, path, own, leaf) for path, leaf in theirs.items()]
    wrong = {entry.path: entry for entry in entries if entry.status != "loaded"} | differing
    return Match(tuple(wrong.values() if wrong else entries), found, is_loadable=not wrong)


def _compare_open(module: str, path: str, own: Mapping[str, Any], other: Any) -> Entry:
    if path not in own:
        return Entry(module, path, "loaded", found=describe(other))
    leaf = own[path]
    differs = is_array(leaf) and is_array(other) and tuple(leaf.shape) != tuple(other.shape)
    return Entry(module, path, "shape" if differs else "loaded", describe(leaf), describe(other))


def _sources(own: Mapping[str, Any], theirs: Mapping[str, Any], found: FileModule) -> dict[str, str]:
    """Return, for each own path that the file has something for, the path it has there."""
    canonical = {_canonical(path): path for path in own}
    sources: dict[str, str] = {}
    for path in theirs:
        target = found.renamed(path)
        if target not in own:
            target = canonical.get(_canonical(target), target)
        if target in own and (target not in sources or target == path):
            sources[target] = path
    return sources


def _canonical(path: str) -> str:
    """Return a path without the prefixes that torch.compile and (Distributed)DataParallel put in."""
    parts = [part for part in path.split(".") if part != "_orig_mod"]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def _compare(
    module: str,
    path: str,
    leaf: Any,
    sources: Mapping[str, str],
    theirs: Mapping[str, Any],
    options: LoadOptions,
) -> Entry:
    if path not in sources:
        return Entry(module, path, "missing", expected=describe(leaf))
    source = sources[path]
    other = theirs[source]
    entry = Entry(module, path, "loaded", describe(leaf), describe(other), source if source != path else None)
    if not is_array(leaf) or not is_array(other):
        return entry if _same_kind(leaf, other) else replace(entry, status="kind")
    if tuple(leaf.shape) != tuple(other.shape):
        return replace(entry, status="shape")
    if dtype_name(leaf) == dtype_name(other):
        return entry
    castable = options.cast and other.dtype.kind in "biufcV" and dtype_name(leaf) != "object"
    return replace(entry, cast=True) if castable else replace(entry, status="dtype")


def _same_kind(leaf: Any, other: Any) -> bool:
    """Say whether two leaves, not both arrays, can stand for each other: a number and a 0-d array can."""
    if is_array(leaf) or is_array(other):
        return _is_scalar(leaf) and _is_scalar(other)
    if leaf is None or other is None:
        return leaf is other
    numbers = int | float | complex
    return isinstance(other, type(leaf)) or (isinstance(leaf, numbers) and isinstance(other, numbers))


def _is_scalar(leaf: Any) -> bool:
    return tuple(leaf.shape) == () if is_array(leaf) else isinstance(leaf, int | float | complex)


def _converted(found: Any, own: Any, options: LoadOptions) -> Any:
    if options.cast and isinstance(found, np.ndarray) and is_array(own) and dtype_name(own) != dtype_name(found):
        from keepfast.codec import dtype_of

        return found.astype(dtype_of(dtype_name(own)))
    return found


def missing_module(module: str, expected: Tree) -> Iterable[Entry]:
    """Yield an entry for everything in a module that a file does not have at all."""
    for path, leaf in flatten(expected).items():
        yield Entry(module, path, "missing", expected=describe(leaf))
