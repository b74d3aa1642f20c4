"""Loading: how it is asked for, and the report of what was loaded and everything that was not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

from keepfast.errors import LoadMismatch
from keepfast.tree import Tree, dtype_name, is_array

Difference = Literal["missing", "extra", "shape", "dtype", "kind", "refused"]
Status = Literal["loaded"] | Difference

_REASONS: dict[Difference, str] = {
    "missing": "the file has no such entry; expected {expected}",
    "extra": "the module has no such entry; the file has {found}",
    "shape": "the module has {expected}, the file has {found}",
    "dtype": "the module has {expected}, the file has {found} (`cast=True` converts)",
    "kind": "the module has {expected}, the file has {found}",
    "refused": "{found}",
}


@final
@dataclass(frozen=True)
class Mismatch:
    """One entry of a file that a module cannot take, as `Backend.mismatches` tells it.

    Attributes:
        path: its path within the module, "" for the module as a whole.
        status: what is wrong with it; see `Entry`.
        expected: what the module has, or needs, there.
        found: what the file has there.
    """

    path: str
    status: Difference
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        reason = _REASONS[self.status].format(expected=self.expected, found=self.found)
        return f"{self.path}: {self.status}: {reason}" if self.path else f"{self.status}: {reason}"


@final
@dataclass(frozen=True)
class Entry:
    """One entry of a module or of a file, and what became of it.

    Attributes:
        module: the module's name.
        path: its path within the module, "" for a module that is a single array.
        status: ``loaded``, or what was wrong: ``missing`` from the file, ``extra`` in the file, another ``shape``,
            ``dtype`` or ``kind`` (an array where there is none, or the reverse), or ``refused`` by the module itself,
            `found` then saying why.
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
        """Return the full paths of what has another shape, dtype or kind, or was refused."""
        return self._names("shape", "dtype", "kind", "refused")

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
        rename: file path -> own path. A path also stands for all below it, and may begin with a module's name: the
            file's on the left, the own one on the right. Of several that fit an entry, the longest counts, once. Of
            open modules (see `Backend.is_open`) only the names of whole modules are mapped.
        device: where restored arrays are placed; None keeps each where the module has it.
    """

    modules: tuple[str, ...] | None = None
    strict: bool = True
    cast: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    device: Any = None

    def renamed_modules(self, found: Mapping[str, Tree]) -> dict[str, FileModule]:
        """Return the file's modules under the names that `rename` gives whole modules.

        Raises:
            LoadMismatch: if two of them get one name.
        """
        renamed: dict[str, FileModule] = {}
        for name, state in found.items():
            target = self.rename.get(name, name)
            if target in renamed:
                raise LoadMismatch(f"`rename` makes two modules of the file `{target}`: {', '.join(found)}")
            renamed[target] = FileModule(state, self._rows(name, target, found))
        return renamed

    def _rows(self, source: str, target: str, found: Iterable[str]) -> dict[str, str]:
        """Return the rows of `rename` for what is in one module of the file, without the module's names."""
        qualified, plain = {}, {}
        for old, new in self.rename.items():
            relative = new.removeprefix(f"{target}.")
            if old.startswith(f"{source}."):
                qualified[old.removeprefix(f"{source}.")] = relative
            elif old.partition(".")[0] not in found:  # else it speaks of a module as a whole, or of another one
                plain[old] = relative
        return plain | qualified


@final
@dataclass(frozen=True)
class FileModule:
    """One module as a file has it.

    Attributes:
        state: its tree, arrays as NumPy arrays.
        rename: path in the file -> own path, both within the module; a path also stands for all below it.
    """

    state: Tree
    rename: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, path: str) -> str:
        """Return the own path that a path of the file stands for."""
        fitting = [old for old in self.rename if path == old or path.startswith(f"{old}.")]
        if not fitting:
            return path
        old = max(fitting, key=len)
        return self.rename[old] + path[len(old) :]


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


def with_refusals(report: LoadReport, refusals: Sequence[Entry]) -> LoadReport:
    """Return a report after modules refused what the file has for them: an entry each, in the place of theirs."""
    names = {entry.module for entry in refusals}
    kept = (entry for entry in report.entries if entry.module not in names)
    return replace(report, entries=(*kept, *refusals))


def _listing(report: LoadReport) -> str:
    return "\n".join(f"  {entry}" for entry in report.differences)
