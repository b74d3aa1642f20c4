"""Compares what a file holds with the modules it is to be loaded into, entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from keepfast.interfaces.backend import Mismatch
from keepfast.interfaces.loading.conversion import Conversion, Converted, FileEntries
from keepfast.interfaces.loading.report import Entry, Status
from keepfast.modules.comparing.naming import sources
from keepfast.modules.comparing.own_names import own_names, own_versions
from keepfast.modules.options import FileModule, LoadOptions
from keepfast.plain.numbers import converted, difference, is_number, kind_of
from keepfast.tree import (
    Tree,
    Unread,
    Whole,
    describe,
    dtype_name,
    flatten,
    is_array,
    leaves,
    map_leaves,
    versions_of,
    with_wholes,
    without_wholes,
)


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


_LOADED: Status = "loaded"

Convert = Callable[[FileEntries], Conversion | None]
"""Asks a module what it makes of a file; it returns None where it takes the file as it is."""


def match(
    module: str,
    expected: Tree,
    found: FileModule,
    options: LoadOptions,
    *,
    free: bool = False,
    resizable: Container[str] = (),
    wholes: Container[str] = (),
    convert: Convert | None = None,
) -> Match:
    """Compare a module's own tree with a file's.

    Args:
        module: the module's name.
        expected: the tree that the module holds now.
        found: what the file holds.
        options: what counts as a difference.
        free: whether numbers of Python may be of another kind, as the value of a variable may.
        resizable: the paths of arrays that may be of another shape.
        wholes: how the paths end of what the module takes whatever is in it.
        convert: makes of the file's entries what the module makes of them.
    """
    outline = with_wholes(expected, wholes)
    own, theirs = flatten(outline), flatten(with_wholes(found.state, wholes))
    at, dropped = sources(own, _renamed(theirs, found))
    pairing = _Pairing(own, theirs, at, {path: path for path in theirs}, dropped)
    if convert is not None:
        kept = {path: leaf for path, leaf in theirs.items() if path not in dropped}
        names = own_names(at, kept, found)
        file = FileEntries(
            {names[path]: without_wholes(leaf) for path, leaf in kept.items() if not isinstance(leaf, Unread)},
            own_versions(versions_of(found.state), at, kept, found),
        )
        if (conversion := convert(file)) is not None:
            pairing = _Pairing.of(conversion, {name: path for path, name in names.items()}, wholes)
            entries, chosen = pairing.compared(module, options, free=free, resizable=resizable)
            state = Converted({path: without_wholes(leaf) for path, leaf in chosen.items()}, file)
            return Match((*entries, *_unread(module, kept)), state)
    entries, chosen = pairing.compared(module, options, free=free, resizable=resizable)
    return Match(entries, without_wholes(map_leaves(lambda path, leaf: chosen.get(path, leaf), outline)))


@final
@dataclass(frozen=True)
class _Pairing:
    """What is compared with what.

    Attributes:
        own: what the module has, by path.
        theirs: what the file has, by path.
        at: by the module's path, the file's that is meant.
        paths: by a path of `theirs`, the one that it has in the file.
        dropped: what of `theirs` nothing is lost with.
    """

    own: Mapping[str, Any]
    theirs: Mapping[str, Any]
    at: Mapping[str, str]
    paths: Mapping[str, str]
    dropped: Collection[str] = ()

    @classmethod
    def of(cls, conversion: Conversion, files: Mapping[str, str], wholes: Container[str]) -> _Pairing:
        """Return what a conversion has to be compared; `files` has the file's path by the own name of each entry."""
        own, theirs = with_wholes(conversion.own, wholes), with_wholes(conversion.found, wholes)
        names = {name: conversion.sources.get(name, name) for name in theirs}
        paths = {name: files.get(source, source) for name, source in names.items()}
        return cls(own, theirs, {name: name for name in own if name in theirs}, paths)

    def compared(
        self, module: str, options: LoadOptions, *, free: bool, resizable: Container[str]
    ) -> tuple[tuple[Entry, ...], dict[str, Any]]:
        """Return every entry with its status, and by path what is to be put into its place."""
        entries: list[Entry] = []
        chosen = {}
        for path, leaf in self.own.items():
            if path not in self.at:
                entries.append(Entry(module, path, "missing", expected=describe(leaf)))
                continue
            theirs, source = self.theirs[self.at[path]], _if_other(self.paths[self.at[path]], path)
            known = told = describe(theirs)
            status, value = _LOADED, theirs
            if not _are_alike(leaf, theirs):
                status, value = _compare(leaf, theirs, cast=options.cast, free=free, any_shape=path in resizable)
                known = describe(leaf)
            entry = Entry(module, path, status, known, told, source, cast=value is not theirs)
            entries += _opened(entry, theirs) if isinstance(theirs, Whole) and status == "loaded" else [entry]
            if status == "loaded":
                chosen[path] = value
        used = {*self.dropped, *self.at.values()}
        extra = {self.paths[path]: leaf for path, leaf in self.theirs.items() if path not in used}
        entries += [Entry(module, path, "extra", found=describe(leaf)) for path, leaf in extra.items()]
        return tuple(entries), chosen


def _opened(entry: Entry, whole: Whole) -> Iterator[Entry]:
    """Yield an entry for each leaf of what is taken whole; one alone where there is none."""
    for path, leaf in leaves(whole.content):
        told = describe(leaf)
        yield replace(entry, path=".".join(filter(None, (entry.path, path))), expected=told, found=told, source=None)


def _unread(module: str, theirs: Mapping[str, Any]) -> Iterator[Entry]:
    for path, leaf in theirs.items():
        if isinstance(leaf, Unread):
            yield Entry(module, path, "extra", found=describe(leaf))


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
    if not mismatches:
        return matched
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
        known = told = describe(leaf)
        status, chosen[path] = _LOADED, leaf
        if path not in own:
            known = ""
        elif not _are_alike(own[path], leaf):
            status, chosen[path] = _compare_open(own[path], leaf, cast=cast)
            known = describe(own[path])
        entries.append(Entry(module, path, status, known, told, cast=chosen[path] is not leaf))
    wrong = {entry.path: entry for entry in entries if entry.status != "loaded"} | differing
    state = map_leaves(lambda path, _leaf: chosen[path], found)
    return Match(tuple(wrong.values() if wrong else entries), state, is_loadable=not wrong)


def _are_alike(own: Any, found: Any) -> bool:
    """Say whether two leaves are arrays of one shape and dtype, as most are: whatever the options, one is loaded."""
    if type(found) is not np.ndarray or not is_array(own):
        return False
    return tuple(own.shape) == found.shape and dtype_name(own) == dtype_name(found)


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
    if not cast or (status is None and (is_array(own) or kind_of(own) == kind_of(found))):
        return status or "loaded", found
    made = converted(found, own)
    if made is None:
        return ("loaded" if status is None else "value"), found
    return "loaded", made


def _compare_open(own: Any, found: Any, *, cast: bool) -> tuple[Status, Any]:
    """Compare two entries, of which one is an array of the module's; all else is for it to judge, once it is cast."""
    if not is_array(own):
        is_other = is_array(found) or kind_of(own) != kind_of(found)
        made = converted(found, own) if cast and is_other and is_number(own) and is_number(found) else None
        return "loaded", found if made is None else made
    if is_array(found) and (tuple(own.shape) != tuple(found.shape) or not kind_of(own)):
        return ("loaded" if tuple(own.shape) == tuple(found.shape) else "shape"), found
    both = (is_array(found) or is_number(found)) and is_number(own) is is_number(found)
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
