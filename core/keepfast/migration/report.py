"""MigrationReport: what a migration did, entry by entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from keepfast._system.notebook.tables import facts, table

Status = Literal["migrated", "kept", "missing", "ambiguous", "refused"]


@final
@dataclass(frozen=True)
class MigratedEntry:
    """One entry of a module, and where its value came from.

    Attributes:
        module: the module's name.
        path: its path within the module.
        status: ``migrated``; ``kept``, where no file has such a thing; ``missing`` from the file; ``ambiguous``, where
            several entries of the file fit; ``refused``, where what fits has no place, `why` then saying why.
        shape: its shape.
        sources: the entries of the file that its value was made of.
        kind: what kind of layer it belongs to.
        why: what decided.
    """

    module: str
    path: str
    status: Status
    shape: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    kind: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """Return its full path, the module's name first."""
        return ".".join(part for part in (self.module, self.path) if part) or "(root)"

    def __str__(self) -> str:
        came = f" <- {', '.join(self.sources)}" if self.sources else ""
        return f"{self.name} {self.shape}: {self.status}{came}{f' ({self.why})' if self.why else ''}"


@final
@dataclass(frozen=True)
class MigratedOptimizer:
    """An optimizer, and what became of its state.

    Attributes:
        name: what it is called, in the module or, of one that goes nowhere, in the file.
        status: ``migrated``; ``left``, where it keeps its own state, `why` then saying why; ``unused``, where it is the
            file's and no module has an optimizer for it.
        sources: the optimizers of the file that its state was made of.
        kind: what it is: ``Adam``.
        steps: how many steps it has made, where that is counted.
        why: why it was left.
    """

    name: str
    status: Literal["migrated", "left", "unused"]
    sources: tuple[str, ...] = ()
    kind: str = ""
    steps: int | None = None
    why: str = ""

    def __str__(self) -> str:
        made = "" if self.steps is None else f", {self.steps} steps"
        told = f"{self.kind}{made}" if self.status == "migrated" else self.why
        came = f" <- {', '.join(self.sources)}" if self.sources else ""
        return f"optimizer {self.name}: {self.status}{came}{f' ({told})' if told else ''}"


@final
@dataclass(frozen=True)
class MigrationReport:
    """What a migration found and did. True when every entry of every module got a value, and no check failed.

    Attributes:
        path: the file; None where a state dict was given.
        reader: the name of the reader that read it.
        reader_version: that reader's version.
        library: the library that wrote the file, where it tells.
        entries: every entry of every module.
        unused: the entries of the file that went nowhere.
        notes: what changed on the way that has no unique way back, and what the file says beside its arrays.
        warnings: where settings that a file does not hold differ, or may.
        dry_run: whether nothing was loaded, since only the mapping was asked for.
        difference: the largest difference of outputs that the check found; None without one.
        duplicated: the entries of the file that went into several layers, with these.
        optimizers: every optimizer of the modules, and those of the file that go nowhere. Whether the report is true
            does not hang on them.
    """

    path: Path | None = None
    reader: str = ""
    reader_version: int = 0
    library: str = ""
    entries: tuple[MigratedEntry, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dry_run: bool = False
    difference: float | None = None
    duplicated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optimizers: tuple[MigratedOptimizer, ...] = ()
    _hints: tuple[str, ...] = field(default=(), repr=False)

    def _names(self, *statuses: Status) -> list[str]:
        return [entry.name for entry in self.entries if entry.status in statuses]

    @property
    def migrated(self) -> dict[str, tuple[str, ...]]:
        """Return the full path of each entry that got a value, with the entries of the file that it was made of."""
        return {entry.name: entry.sources for entry in self.entries if entry.status == "migrated"}

    @property
    def missing(self) -> list[str]:
        """Return the full paths of what the file has nothing for."""
        return self._names("missing")

    @property
    def ambiguous(self) -> list[str]:
        """Return the full paths of what several entries of the file fit."""
        return self._names("ambiguous")

    @property
    def refused(self) -> list[str]:
        """Return the full paths of what cannot hold what the file has for it."""
        return self._names("refused")

    @property
    def hints(self) -> tuple[str, ...]:
        """Return, for what is ambiguous, the candidates and the line of `name_map` that would settle it."""
        return self._hints

    def __bool__(self) -> bool:
        return bool(self.entries) and all(entry.status in ("migrated", "kept") for entry in self.entries)

    def __repr__(self) -> str:
        done = f"{len(self.migrated)} of {len(self.entries)} entries migrated"
        return f"MigrationReport({str(self.path or 'state dict')!r}: {done}, {len(self.unused)} unused)"

    def _repr_html_(self) -> str:
        about = [("reader", f"{self.reader} {self.reader_version}"), ("library", self.library or "not known")]
        told = [("note", note) for note in self.notes] + [("warning", warning) for warning in self.warnings]
        rows = ((each.name, each.shape, each.status, ", ".join(each.sources), each.why) for each in self.entries)
        head = facts(repr(self), [*about, *told])
        unused = table(("unused",), ((name,) for name in self.unused)) if self.unused else ""
        return head + table(("entry", "shape", "status", "from", "why"), rows) + unused

    def __str__(self) -> str:
        done = len(self.migrated)
        head = f"{self.path or 'state dict'}: {done} of {len(self.entries)} entries migrated"
        told = [*map(str, self.entries), *(f"unused: {name}" for name in self.unused)]
        told += map(str, self.optimizers)
        told += [f"note: {note}" for note in self.notes] + [f"warning: {each}" for each in self.warnings]
        return "\n".join([f"{head} (reader {self.reader} {self.reader_version})", *(f"  {line}" for line in told)])


def problems(report: MigrationReport) -> list[str]:
    """Return what a report has against loading, a line each."""
    lines = [str(entry) for entry in report.entries if entry.status in ("missing", "refused")]
    return [*lines, *report.hints]


def listing(current: Sequence[tuple[str, Any]], source: Sequence[tuple[str, Any]], report: MigrationReport) -> str:
    """Return what `verbose` prints: the entries of both sides with their shapes, and what goes where."""
    lines = [
        "Migration",
        f"  reader: {report.reader} {report.reader_version}, library: {report.library or 'not known'}",
    ]
    for title, entries in (("current", current), ("source", source)):
        lines.append(f"  {title}: {len(entries)} entries")
        lines += [f"    {name}: {shape}" for name, shape in entries]
    lines.append("  map (current <- source):")
    lines += [f"    {entry}" for entry in report.entries]
    lines += [f"    unused: {name}" for name in report.unused]
    lines += [f"    {optimizer}" for optimizer in report.optimizers]
    lines += [f"  note: {note}" for note in report.notes] + [f"  warning: {each}" for each in report.warnings]
    return "\n".join(lines)
