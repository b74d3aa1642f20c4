"""What a run's directory holds, told to what uploads it: which parts an index lists, and how it lists others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import final

from keepfast._system.remote.addresses import Address
from keepfast._system.remote.elsewhere import bring
from keepfast._system.remote.pulling import copy_of
from keepfast.checkpoints.index import (
    CHECKPOINTS,
    INDEX,
    IndexedCheckpoint,
    IndexedFile,
    exclusive,
    index_of,
    read_index,
)
from keepfast.checkpoints.placing import file_name
from keepfast.errors import InvalidValue
from keepfast.runs.directory import CONFIG


@final
class _RunLayout:
    """The directory of a run; see `keepfast._system.remote.uploading.Layout`."""

    checkpoints = CHECKPOINTS
    index = f"{CHECKPOINTS}/{INDEX}"

    def exclusive(self, directory: Path) -> AbstractContextManager[None]:
        """Hold a run's checkpoints against whoever writes them."""
        return exclusive(directory / CHECKPOINTS) if (directory / CHECKPOINTS).is_dir() else nullcontext()

    def is_there(self, directory: Path) -> bool:
        """Say whether a directory is that of a run."""
        return (directory / CONFIG).is_file()

    def parts(self, index: bytes) -> dict[str, str]:
        """Return the digest of all that an index lists, by name from the run on."""
        found = {}
        for row in _rows(index):
            found.update({f"{CHECKPOINTS}/{file.name}": file.digest for file in row.files.values()})
            found.update({f"{CHECKPOINTS}/{segment}": "" for segment in row.segments})
        return found

    def without(self, index: bytes, names: set[str]) -> bytes:
        """Return an index without the checkpoints that have a part of one of these names."""
        return _changed(index, lambda row: None if _names(row) & names else row)

    def aside(self, index: bytes, names: set[str]) -> tuple[bytes, dict[str, str]]:
        """Return an index that lists parts by other names, and these by the names they had."""
        others: dict[str, str] = {}

        def moved(row: IndexedCheckpoint) -> IndexedCheckpoint | None:
            if not _names(row) & names:
                return row
            files = {key: replace(file, name=_other_name(row, key, file)) for key, file in row.files.items()}
            for key, file in row.files.items():
                others[f"{CHECKPOINTS}/{file.name}"] = f"{CHECKPOINTS}/{files[key].name}"
            return replace(row, files=files)

        return _changed(index, moved), others


def _other_name(row: IndexedCheckpoint, key: str, file: IndexedFile) -> str:
    return file_name(key, row.timestep or 0, Path(file.name).suffix, best=row.best, aside=True, keys=row.files.keys())


def _names(row: IndexedCheckpoint) -> set[str]:
    return {f"{CHECKPOINTS}/{name}" for name in (*row.names, *row.segments)}


def _rows(index: bytes) -> Iterator[IndexedCheckpoint]:
    try:
        rows = json.loads(index)["checkpoints"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    for row in rows if isinstance(rows, list) else ():
        try:
            yield IndexedCheckpoint.from_json(row)
        except InvalidValue:  # what it names is read by nobody
            continue


def _changed(index: bytes, change: Callable[[IndexedCheckpoint], IndexedCheckpoint | None]) -> bytes:
    made = BytesIO()
    index_of([changed for row in _rows(index) if (changed := change(row)) is not None])(made)
    return made.getvalue()


LAYOUT = _RunLayout()
"""The one there is."""


def copy_at(address: Address, *, metrics: bool) -> Path:
    """Return a copy of what is at an address; see `keepfast._system.remote.pulling.copy_of`."""
    path = copy_of(address, LAYOUT, metrics=metrics)
    for row in read_index(path.parent):
        if path.name in row.names:
            for name in (*row.names, *row.segments):
                bring(path.parent / name)
    return path
