"""MemoryExport: where the files of one memory go, and the thread that writes them behind training."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, final

from keepfast._system.arguments.checks import function
from keepfast._system.background import Background
from keepfast._system.commit import sweep
from keepfast._system.disk.directories import make_directory, taken
from keepfast._system.disk.optional import tell_lacking
from keepfast._system.finishing import finish
from keepfast._system.lifetimes import at_exit, in_child
from keepfast._system.tally import Count, Tally
from keepfast._system.warnings import Afterwards
from keepfast.errors import DirectoryError, KeepfastError
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot
from keepfast.memories.tensors.specs import positive
from keepfast.plugins.backends import group_ranks
from keepfast.plugins.formats import exporter_named
from keepfast.plugins.locations import writable

DEFAULT_DIRECTORY = "memory"
"""Where files go where nobody says it, in the working directory."""

DEFAULT_FORMAT = "pt"

_STAMP = "%y-%m-%d_%H-%M-%S-%f"

_OPEN: set[MemoryExport] = set()
"""Those that have begun to write and were not closed: whoever does not close is told at the end of the program."""


@final
class MemoryExport:
    """Names and writes the files of one memory.

    One file may be in the making while training goes on; a memory that fills again before it is done waits for it.
    A file that cannot be written (a full disk, say) does not end training: the first is reported by a warning, the
    others are counted, and closing, or the end of the program, tells how many are missing.

    Args:
        format: the memory format, by name; None is the default.
        directory: where the files go; None is the default, and "" the directory of the run that the memory belongs to.
        keep: how many automatically exported files stay, the newest; None keeps all.
        active: whether there is a file for each filling cycle.

    Attributes:
        format: the memory format, by name.
        directory: where the files go, whatever becomes of the working directory.
        active: whether there is a file for each filling cycle.
        cycles: the number of the last filling cycle, which files are named by.

    Raises:
        UnknownPlugin: if nobody provides the format.
        MissingDependency: if the format needs a package that is not installed.
        InvalidValue: if `keep` is neither None nor a positive whole number.
    """

    def __init__(
        self,
        format: str | None,  # noqa: A002  (the design's name)
        directory: str | os.PathLike[str] | None,
        keep: int | None = None,
        *,
        active: bool = False,
    ) -> None:
        self.format = DEFAULT_FORMAT if format is None else format
        self._exporter = exporter_named(self.format)
        self._is_of_run = isinstance(directory, str) and directory == ""
        self.directory = taken(DEFAULT_DIRECTORY if directory is None or self._is_of_run else writable(directory))
        self.keep = None if keep is None else positive("export_keep", keep)
        self.active = active
        self.cycles = 0
        self._token: str
        self._written: deque[Path]
        self._told: list[Callable[[Path], object]]
        self._failed: Tally
        self._background: Background | None
        self._begin()

    def _begin(self) -> None:
        self.__dict__.update(_of_its_own())
        at_exit(self._end)
        in_child(self._part_from_parent)

    def __getstate__(self) -> dict[str, Any]:
        own = _of_its_own().keys()
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def belong_to(self, run: Path) -> None:
        """Be told the directory of the run, where files go unless they have one of their own.

        Raises:
            DirectoryError: if it is to have them, and cannot be made or written in.
        """
        if self._is_of_run:
            self.directory = run
            if self.active:
                self._check()

    def prepare(self) -> None:
        """Check, before training depends on it, that files can be written into the directory, where it is known.

        Raises:
            DirectoryError: if the directory cannot be made or written in.
        """
        if not self._is_of_run:
            self._check()

    def _check(self) -> None:
        try:
            make_directory(self.directory)
            probe = self.directory / f".{self._token}.keepfast-tmp"
            probe.touch()
            probe.unlink(missing_ok=True)  # another process may have swept it
        except OSError as error:
            reason = error.strerror or str(error)
            raise DirectoryError(
                f"memories cannot be exported to `{self.directory}`: {reason}; give another `export_directory`"
            ) from error
        sweep(self.directory)

    def when_exported(self, callback: Callable[[Path], object]) -> None:
        """Have a function called, behind training, with each file that is written for a filling cycle.

        Raises:
            InvalidValue: if it is no function.
        """
        if function("callback", callback) not in self._told:
            self._told.append(callback)

    def filled(self, cycle: int, snapshot: Callable[[], MemorySnapshot]) -> None:
        """Export the memory where that is asked for; tell first if an export before this one failed."""
        with Afterwards():
            self._report()
            self.cycles = cycle
            if self.active:
                self.submit(snapshot())

    def save(
        self,
        snapshot: Callable[[], MemorySnapshot],
        directory: str | os.PathLike[str] = "",
        format: str | None = None,  # noqa: A002  (the design's name)
    ) -> Path:
        """Write a new file at once, and return its path; see `Memory.save`."""
        chosen = exporter_named(self.format if format is None else format)
        path = self._unused_path(self.directory if _is_none(directory) else taken(writable(directory)), chosen)
        chosen.save(snapshot(), path)
        return path

    def submit(self, snapshot: MemorySnapshot) -> None:
        """Write a snapshot behind training; waits while the one before it is still being written."""
        if self._background is None:
            self._background = Background("keepfast-memory-export", does="a memory to be exported")
        self._background.place = self.directory
        _OPEN.add(self)
        path = self._unused_path(self.directory, self._exporter)
        self._background.submit(lambda: self._write(snapshot, path))

    def _write(self, snapshot: MemorySnapshot, path: Path) -> None:
        try:
            self._exporter.save(snapshot, path)
            self._written.append(path)
            while self.keep is not None and len(self._written) > self.keep:
                self._exporter.remove(self._written.popleft())
            finish(*(partial(told, path) for told in self._told))
        except Exception as error:  # noqa: BLE001  (whatever keeps a memory from its file does not end training)
            reason = f"{error}" if isinstance(error, KeepfastError) else f"{type(error).__name__}: {error}"
            self._failed.count(_EXPORT, reason)

    def _report(self) -> None:
        """Warn, once, of a file that could not be written."""
        finish(partial(self._failed.tell, _first_failure), tell_lacking)

    def wait(self) -> None:
        """Return when every file is on disk, or has failed."""
        if self._background is not None:
            self._background.wait()
        self._report()

    def close(self, rest: Callable[[], MemorySnapshot | None] = lambda: None) -> None:
        """Finish what was promised, export what is left over, and tell how much of it failed.

        Args:
            rest: returns the samples of the cycle that is under way; None where none are new.
        """
        if self.active and (last := rest()) is not None:
            self.filled(self.cycles + 1, lambda: last)
        _OPEN.discard(self)
        if self._background is not None:
            self._background.close()
        finish(partial(self._failed.tell_sum, self._losses, clear=True), tell_lacking)

    def _losses(self, counts: Mapping[str, Count]) -> str:
        lost, of = counts.get(_EXPORT, Count()), f"{self.cycles} memory exports to `{self.directory}` failed"
        return f"{lost.number} of {of}; the first: {lost.first}" if lost.number else ""

    def _end(self) -> None:
        if self in _OPEN:
            self.close()

    def _part_from_parent(self) -> None:
        _OPEN.discard(self)
        self.__dict__.update(_of_its_own())

    def _unused_path(self, directory: Path, chosen: MemoryExporter) -> Path:
        """Return a path that names the time, the rank in a distributed run, this memory and its cycle; a new one."""
        moment = datetime.now().astimezone()
        rank = max(group_ranks().values(), default=None)
        owner = self._token if rank is None else f"rank{rank}_{self._token}"
        while True:
            path = directory / f"{moment.strftime(_STAMP)}_memory_{owner}-{self.cycles}{chosen.extension}"
            if not path.exists():
                return path
            moment += timedelta(microseconds=1)


def _is_none(directory: Any) -> bool:
    return directory is None or (isinstance(directory, str) and directory == "")


_EXPORT = "export"


def _first_failure(_name: str, count: Count) -> str:
    return f"a memory was not exported: {count.first}; training goes on, further failures are counted"


def _of_its_own() -> dict[str, Any]:
    """Return what a copy has for itself, in this process or another: its names, its files, its failures, its thread."""
    return {
        "_token": secrets.token_hex(4),
        "_written": deque(),
        "_told": [],
        "_failed": Tally(),
        "_background": None,
    }
