"""Compares what a file holds with the modules it is to be loaded into, and reports every difference at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from holdfast.errors import LoadMismatch
from holdfast.tree import Tree, dtype_name, flatten, is_array, map_leaves

Status = Literal["loaded", "missing", "extra", "shape", "dtype", "kind"]

_REASONS: dict[Status, str] = {
    "missing": "the file has no such entry; expected {expected}",
    "extra": "the module has no such entry; the file has {found}",
    "shape": "the module has {expected}, the file has {found}",
    "dtype": "the module has {expected}, the file has {found} (`cast=True` converts)",
    "kind": "the module has {expected}, the file has {found}",
}


@final
@dataclass(frozen=True)
class Entry:
    """One entry of a module or of a file, and what became of it.

    Attributes:
        module: the module's name.
        path: its path within the module, "" for a module that is a single array.
        status: ``loaded``, or what was wrong: ``missing`` from the file, ``extra`` in the file, or another ``shape``,
            ``dtype`` or ``kind`` (an array where there is none, or the reverse).
        expected: what the module has there, such as ``float32 (4, 64)``.
        found: what the file has there.
        source: the path it has in the file, where that differs.
        cast: whether its dtype was converted.
    """

    module: str
    path: str
    status: Status
    expected: str = ""
    found: str = ""
    source: str | None = None
    cast: bool = False

    @property
    def name(self) -> str:
        """Return its full path, the module's name first."""
        return f"{self.module}.{self.path}" if self.path else self.module

    def __str__(self) -> str:
        if self.status == "loaded":
            return f"{self.name}: loaded {self.found}"
        return f"{self.name}: {self.status}: {_REASONS[self.status].format(expected=self.expected, found=self.found)}"


@final
@dataclass(frozen=True)
class LoadReport:
    """What a load found and did. True when everything fitted.

    Attributes:
        path: the file, or the directory where a run was resumed.
        entries: every entry of every module that was asked for.
        timestep: the timestep the checkpoint was taken at, where the file tells.
        absent_modules: modules of the file that the agent does not have.
        skipped: checkpoints passed over on the way to this one, each with the reason.
    """

    path: Path | None = None
    entries: tuple[Entry, ...] = ()
    timestep: int | None = None
    absent_modules: tuple[str, ...] = ()
    skipped: Mapping[Path, str] = field(default_factory=dict)

    def _names(self, *statuses: Status) -> list[str]:
        return [entry.name for entry in self.entries if entry.status in statuses]

    @property
    def loaded(self) -> list[str]:
        """Return the full paths of what was loaded."""
        return self._names("loaded")

    @property
    def missing(self) -> list[str]:
        """Return the full paths of what the file lacks."""
        return self._names("missing")

    @property
    def extra(self) -> list[str]:
        """Return the full paths of what the modules lack."""
        return self._names("extra")

    @property
    def mismatched(self) -> list[str]:
        """Return the full paths of what has another shape, dtype or kind."""
        return self._names("shape", "dtype", "kind")

    @property
    def renamed(self) -> dict[str, str]:
        """Return the full path of what has another name in the file, with that name."""
        return {entry.name: entry.source for entry in self.entries if entry.source is not None}

    @property
    def cast(self) -> list[str]:
        """Return the full paths of what was converted to another dtype."""
        return [entry.name for entry in self.entries if entry.cast]

    @property
    def differences(self) -> list[Entry]:
        """Return every entry that did not fit."""
        return [entry for entry in self.entries if entry.status != "loaded"]

    def __bool__(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        head = f"{self.path}: {len(self.loaded)} entries loaded, {len(self.differences)} not"
        return "\n".join([head, *(f"  {entry}" for entry in self.differences)])


@final
@dataclass(frozen=True)
class LoadOptions:
    """How a load treats what does not fit.

    Attributes:
        modules: the names of the modules to load; all if None.
        strict: whether any difference is an error.
        cast: whether another dtype is converted instead of being a difference.
        rename: file path -> own path; a path also stands for all below it, and may begin with the module's name.
        device: where restored arrays are placed; None keeps each where the module has it.
    """

    modules: tuple[str, ...] | None = None
    strict: bool = True
    cast: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    device: Any = None

    def renamed_modules(self, found: Mapping[str, Tree]) -> dict[str, Tree]:
        """Return the file's modules under the names that `rename` gives whole modules.

        Raises:
            LoadMismatch: if two of them get one name.
        """
        renamed: dict[str, Tree] = {}
        for name, state in found.items():
            target = self.rename.get(name, name)
            if target in renamed:
                raise LoadMismatch(f"`rename` makes two modules of the file `{target}`: {', '.join(found)}")
            renamed[target] = state
        return renamed

    def renamed(self, module: str, path: str) -> str:
        """Return the own path that a path of the file stands for."""
        for full, prefix in ((f"{module}.{path}", f"{module}."), (path, "")):
            for old, new in sorted(self.rename.items(), key=lambda pair: -len(pair[0])):
                if full == old or full.startswith(f"{old}."):
                    return (new + full[len(old) :]).removeprefix(prefix)
        return path


@final
@dataclass(frozen=True)
class Match:
    """The outcome of comparing one module with a file.

    Attributes:
        entries: every entry with its status.
        state: the tree to restore.
    """

    entries: tuple[Entry, ...]
    state: Tree


def match(module: str, expected: Tree, found: Tree, *, is_open: bool, options: LoadOptions) -> Match:
    """Compare a module's own tree with a file's.

    Args:
        module: the module's name.
        expected: the tree that the module holds now.
        found: the tree that the file holds, its arrays NumPy arrays.
        is_open: whether the module decides by itself what it takes beyond what it has.
        options: what counts as a difference.
    """
    own, theirs = flatten(expected), flatten(found)
    sources = _sources(module, own, theirs, options)
    entries = [
        _compare(module, path, own[path], sources, theirs, options, lenient=is_open)
        for path in own
        if path in sources or not is_open
    ]
    entries += [
        Entry(module, path, "loaded" if is_open else "extra", found=describe(theirs[path]))
        for path in theirs
        if path not in sources.values()
    ]
    if is_open:
        return Match(tuple(entries), found)
    chosen = {
        entry.path: _converted(theirs[sources[entry.path]], own[entry.path], options)
        for entry in entries
        if entry.status == "loaded"
    }
    return Match(tuple(entries), map_leaves(lambda path, leaf: chosen.get(path, leaf), expected))


def _sources(module: str, own: Mapping[str, Any], theirs: Mapping[str, Any], options: LoadOptions) -> dict[str, str]:
    """Return, for each own path that the file has something for, the path it has there."""
    canonical = {_canonical(path): path for path in own}
    sources: dict[str, str] = {}
    for path in theirs:
        target = options.renamed(module, path)
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
    *,
    lenient: bool,
) -> Entry:
    if path not in sources:
        return Entry(module, path, "missing", expected=describe(leaf))
    source = sources[path]
    other = theirs[source]
    entry = Entry(module, path, "loaded", describe(leaf), describe(other), source if source != path else None)
    if not is_array(leaf) or not is_array(other):
        return entry if lenient or _same_kind(leaf, other) else replace(entry, status="kind")
    if tuple(leaf.shape) != tuple(other.shape):
        return replace(entry, status="shape")
    if lenient or dtype_name(leaf) == dtype_name(other):
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
        from holdfast.codec import dtype_of

        return found.astype(dtype_of(dtype_name(own)))
    return found


def describe(leaf: Any) -> str:
    """Return what a leaf is, in a few words: dtype and shape of an array, type and value of anything else."""
    if is_array(leaf):
        return f"{dtype_name(leaf)} {tuple(leaf.shape)}"
    return f"{type(leaf).__name__} {leaf!r:.40}"


def require(report: LoadReport, *, strict: bool) -> None:
    """Raise what a report gives cause for.

    Raises:
        LoadMismatch: if nothing matched at all, or anything differs and `strict` holds.
    """
    if report.entries and not report.loaded:
        raise LoadMismatch(f"nothing in `{report.path}` matches the modules it was loaded into:\n{_listing(report)}")
    if strict and not report:
        raise LoadMismatch(
            f"`{report.path}` does not fit, and nothing was loaded (`strict=False` loads what fits):\n"
            f"{_listing(report)}"
        )


def _listing(report: LoadReport) -> str:
    return "\n".join(f"  {entry}" for entry in report.differences)


def missing_module(module: str, expected: Tree) -> Iterable[Entry]:
    """Yield an entry for everything in a module that a file does not have at all."""
    for path, leaf in flatten(expected).items():
        yield Entry(module, path, "missing", expected=describe(leaf))
