"""The index of a checkpoint directory: what is there, in a file that can be made again from the others."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

from holdfast._commit import commit
from holdfast._digest import file_digest
from holdfast._file_lock import lock, unlock
from holdfast.checkpoint import Checkpoint
from holdfast.errors import HoldfastError

INDEX = "index.json"
INDEX_VERSION = 1
GROUPED = "agent"
"""The key in the name of a file that holds all modules."""

BEST = "best_"
"""How the names of the best begin."""

_NUMBERED = re.compile(r"^(?P<key>.+)_(?P<timestep>\d+)$")


@final
@dataclass(frozen=True)
class IndexedFile:
    """One file of a checkpoint: its name, its size in bytes, its digest ("" where it is not known)."""

    name: str
    size: int
    digest: str = ""


@final
@dataclass(frozen=True)
class IndexedCheckpoint:
    """One checkpoint of a directory.

    Attributes:
        timestep: the completed timesteps it was taken at; None where neither name nor file tells.
        best: whether it is one of the best rather than a periodic one.
        files: each file by its key: ``agent``, or each module's name where they are stored separately.
        modules: the names of its modules, where known.
        metric: tag and value that it was judged by, for the best.
        time: seconds since the epoch.
        versions: what wrote it.
        own: whether Holdfast wrote it, so that retention may remove it.
    """

    timestep: int | None
    best: bool
    files: Mapping[str, IndexedFile]
    modules: tuple[str, ...] = ()
    metric: Mapping[str, Any] | None = None
    time: float = 0.0
    versions: Mapping[str, Any] = field(default_factory=dict)
    own: bool = True

    @property
    def names(self) -> set[str]:
        """Return the names of its files."""
        return {file.name for file in self.files.values()}

    @property
    def score(self) -> float | None:
        """Return the value it was judged by."""
        return None if self.metric is None else float(self.metric["value"])

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> IndexedCheckpoint:
        """Return the checkpoint that a row of the index describes."""
        files = {key: IndexedFile(**file) for key, file in row["files"].items()}
        return cls(**{**row, "files": files, "modules": tuple(row["modules"])})

    def described_by(self, metadata: Mapping[str, Any]) -> IndexedCheckpoint:
        """Return the same with what a file's own metadata tells."""
        if not metadata:
            return self
        return replace(
            self,
            timestep=metadata.get("timestep", self.timestep),
            modules=tuple(metadata.get("modules", ())),
            metric=metadata.get("metric"),
            time=metadata.get("time", 0.0),
            versions={"holdfast": metadata.get("holdfast"), "format": metadata.get("format_version")},
            own=True,
        )


def read_index(directory: Path) -> list[IndexedCheckpoint]:
    """Return what the index lists, nothing where there is none or it cannot be read (the files are what counts)."""
    try:
        document = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        return [IndexedCheckpoint.from_json(row) for row in document["checkpoints"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def write_index(directory: Path, checkpoints: list[IndexedCheckpoint]) -> None:
    """Commit an index."""
    rows = [asdict(checkpoint) for checkpoint in sorted(checkpoints, key=order)]
    document = {"version": INDEX_VERSION, "checkpoints": rows}
    text = json.dumps(document, indent=1, default=list)
    commit(directory / INDEX, lambda file: file.write(text.encode()))


def order(checkpoint: IndexedCheckpoint) -> tuple[bool, int, list[str]]:
    """Return the sort key of a checkpoint: by timestep, periodic ones first."""
    return checkpoint.best, -1 if checkpoint.timestep is None else checkpoint.timestep, sorted(checkpoint.names)


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a directory against other processes while its index is read, changed and committed."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        lock(descriptor, wait=True)
        yield
    finally:
        unlock(descriptor)
        os.close(descriptor)


def scan(directory: Path, extensions: set[str]) -> list[IndexedCheckpoint]:
    """Return the checkpoints that the names of a directory's files tell of, in the order of `order`."""
    groups: dict[tuple[bool, int | None, str], dict[str, IndexedFile]] = {}
    paths = [path for path in sorted(directory.glob("[!.]*")) if path.suffix in extensions and path.is_file()]
    periodic = (_NUMBERED.match(path.stem) for path in paths if not path.name.startswith(BEST))
    keys = {matched["key"] for matched in periodic if matched is not None}
    for path in paths:
        best, key, timestep = _parsed(path.stem, keys)
        if not best and timestep is None:
            continue  # somebody's own file
        together = "" if key != GROUPED else path.suffix
        files = groups.setdefault((best, timestep, together), {})
        files[key] = IndexedFile(path.name, path.stat().st_size)
    found = [IndexedCheckpoint(timestep, best, files, own=False) for (best, timestep, _), files in groups.items()]
    return sorted(found, key=order)


def _parsed(stem: str, keys: set[str]) -> tuple[bool, str, int | None]:
    """Return whether a name is one of the best, its key, and its timestep if it has one.

    Args:
        stem: the file's name without its extension.
        keys: the keys of the periodic checkpoints, among which those of the best are: ``best_critic_1`` is the best of
            a module `critic_1`, if there is such a module, and else that of `critic` at timestep 1.
    """
    best, rest = stem.startswith(BEST), stem.removeprefix(BEST)
    matched = _NUMBERED.match(rest)
    if matched is None or (best and rest in keys):
        return best, rest, None
    return best, matched["key"], int(matched["timestep"])


def merged(directory: Path, extensions: set[str]) -> list[IndexedCheckpoint]:
    """Return what the index lists and still exists, and what else lies in the directory."""
    present = {path.name for path in directory.glob("*")} if directory.is_dir() else set()
    indexed = [checkpoint for checkpoint in read_index(directory) if checkpoint.names & present]
    listed = {name for checkpoint in indexed for name in checkpoint.names}
    others = [checkpoint for checkpoint in scan(directory, extensions) if not checkpoint.names & listed]
    return sorted([*indexed, *others], key=order)


def rebuild(directory: Path, readers: Mapping[str, Any]) -> tuple[list[IndexedCheckpoint], dict[Path, str]]:
    """Make the index again from the files themselves.

    Args:
        directory: the checkpoint directory.
        readers: extension -> `CheckpointStore`.

    Returns:
        What was indexed, and the damaged files with the reason each was left out.
    """
    found: list[IndexedCheckpoint] = []
    damaged: dict[Path, str] = {}
    with exclusive(directory):
        for checkpoint in scan(directory, set(readers)):
            described = checkpoint
            try:
                for file in checkpoint.files.values():
                    path = directory / file.name
                    read: Checkpoint = readers[path.suffix].load(path)
                    described = described.described_by(read.metadata)
            except (HoldfastError, OSError) as error:
                damaged[path] = str(error)
                continue
            files = {
                key: replace(file, digest=file_digest(directory / file.name)) for key, file in described.files.items()
            }
            found.append(replace(described, files=files))
        write_index(directory, found)
    return found, damaged
