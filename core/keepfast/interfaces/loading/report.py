"""Loading: how it is asked for, and the report of what was loaded and everything that was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, final

from keepfast._system.notebook.tables import facts, table
from keepfast.errors import LoadMismatch
from keepfast.interfaces.backend import REASONS, Difference

Status = Literal["loaded"] | Difference


@final
@dataclass(frozen=True)
class Entry:
    """One entry of a module or of a file, and what became of it.

    Attributes:
        module: the module's name.
        path: its path within the module, "" for a module that is a single array.
        status: ``loaded``, or what was wrong: ``missing`` from the file, ``extra`` in the file, another ``shape``,
            ``dtype`` or ``kind`` (an array where there is none, or the reverse), a ``value`` that its place cannot
            hold, or ``refused`` by the module itself, `found` then saying why.
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
        return f"{self.name}: {self.status}: {REASONS[self.status].format(expected=self.expected, found=self.found)}"


@final
@dataclass(frozen=True, repr=False)
class LoadReport:
    """What a load found and did. True when everything fitted.

    Attributes:
        path: the file, or the directory where a run was resumed.
        entries: every entry of every module that was asked for.
        timestep: the timestep the checkpoint was taken at, where the file tells.
        absent_modules: modules of the file that the agent does not have.
        skipped: checkpoints passed over on the way to this one, each with the reason.
        tied: what the file has other values for than for another entry, though both are one array here; by its full
            path that of the other one, whose values are loaded.
    """

    path: Path | None = None
    entries: tuple[Entry, ...] = ()
    timestep: int | None = None
    absent_modules: tuple[str, ...] = ()
    skipped: Mapping[Path, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)

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
        return self._names("shape", "dtype", "kind", "value", "refused")

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

    def __repr__(self) -> str:
        at = "" if self.timestep is None else f", timestep {self.timestep}"
        counted = f"{len(self.loaded)} entries loaded, {len(self.differences)} not"
        return f"LoadReport({str(self.path)!r}{at}: {counted})"

    def _repr_html_(self) -> str:
        counted = Counter(entry.status for entry in self.entries)
        at = [("timestep", self.timestep)] if self.timestep is not None else []
        head = facts(f"LoadReport of {self.path}", [*at, *counted.items()])
        skipped = table(("skipped", "why"), self.skipped.items()) if self.skipped else ""
        return head + (table(("difference",), ((entry,) for entry in self.differences)) if not self else "") + skipped

    def __str__(self) -> str:
        head = f"{self.path}: {len(self.loaded)} entries loaded, {len(self.differences)} not"
        return "\n".join([head, *(f"  {entry}" for entry in self.differences)])


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
