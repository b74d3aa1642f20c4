"""A run's checkpoint directory: writes, finds, reads and removes checkpoints."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, final

from holdfast._commit import commit_together, sweep, sync_directory
from holdfast._digest import file_digest
from holdfast.checkpoint import Checkpoint, CheckpointStore
from holdfast.checkpoint_formats import store_for, stores
from holdfast.checkpoint_index import (
    GROUPED,
    IndexedCheckpoint,
    IndexedFile,
    exclusive,
    merged,
    read_index,
    write_index,
)
from holdfast.errors import CorruptCheckpoint, InvalidValue, NotFound
from holdfast.retention import Retention
from holdfast.tree import Tree


@final
class CheckpointDirectory:
    """The checkpoints of one run.

    Args:
        path: the directory, made at the first write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def sweep(self) -> None:
        """Remove what killed saves left behind."""
        if self.path.is_dir():
            sweep(self.path)

    def write(
        self,
        state: Mapping[str, Tree],
        metadata: Mapping[str, Any],
        store: CheckpointStore,
        *,
        separately: bool,
        best: bool,
        retention: Retention,
    ) -> IndexedCheckpoint:
        """Write one checkpoint, list it in the index, and remove what the retention lets go; durable when it returns.

        Args:
            state: each module's host tree by name.
            metadata: what is stored beside them; ``timestep`` is in it.
            store: the format.
            separately: whether each module gets a file of its own.
            best: whether it is the best so far rather than a periodic one.
            retention: what stays.

        Raises:
            WriteFailed: if the operating system refused; earlier checkpoints are untouched.
            InvalidValue: if a module's name cannot be part of a file's name.
        """
        timestep = int(metadata["timestep"])
        parts = {name: state[name] for name in state} if separately else {GROUPED: state}
        writes: dict[Path, Callable[[BinaryIO], object]] = {}
        for key, tree in parts.items():
            document = Checkpoint(tree, {**metadata, "module": key} if separately else metadata)
            writes[self.path / _file_name(key, timestep, store.extension, best=best)] = _writer(store, document)
        self.path.mkdir(parents=True, exist_ok=True)
        with exclusive(self.path):
            if best and (retention.keep_best > 1 or separately):  # several names do not change in one step
                self._set_aside_best()
            sizes = commit_together(writes)
            files = {
                key: IndexedFile(path.name, sizes[path], file_digest(path))
                for key, path in zip(parts, writes, strict=True)
            }
            written = IndexedCheckpoint(timestep, best, files).described_by(metadata)
            self._index(written, retention)
        return written

    def _set_aside_best(self) -> None:
        """Give the best so far a name with its timestep, so that the next one does not replace it."""
        kept = []
        for checkpoint in read_index(self.path):
            files = dict(checkpoint.files)
            for key, file in checkpoint.files.items():
                plain = self.path / file.name
                numbered = f"best_{key}_{checkpoint.timestep}{plain.suffix}"
                if checkpoint.best and plain.name == f"best_{key}{plain.suffix}" and plain.exists():
                    with contextlib.suppress(FileExistsError):
                        os.link(plain, self.path / numbered)
                    files[key] = replace(file, name=numbered)
            kept.append(replace(checkpoint, files=files))
        sync_directory(self.path)
        write_index(self.path, kept)

    def _index(self, written: IndexedCheckpoint, retention: Retention) -> None:
        others = [
            checkpoint
            for checkpoint in read_index(self.path)
            if not checkpoint.names & written.names and any((self.path / name).exists() for name in checkpoint.names)
        ]
        # What was just written stays, also where a resume from further back left later ones behind.
        removable = [checkpoint for checkpoint in retention.removable([*others, written]) if checkpoint is not written]
        write_index(self.path, [*others, written])
        if removable:
            for name in {name for checkpoint in removable for name in checkpoint.names}:
                (self.path / name).unlink(missing_ok=True)
            write_index(self.path, [checkpoint for checkpoint in [*others, written] if checkpoint not in removable])

    def checkpoints(self) -> list[IndexedCheckpoint]:
        """Return every checkpoint there is, indexed or not, by timestep."""
        return merged(self.path, set(stores()))

    def best_score(self, mode: str, metric: str) -> float | None:
        """Return the best score that any stored checkpoint was judged by, or None."""
        scores = [
            checkpoint.score
            for checkpoint in self.checkpoints()
            if checkpoint.best and checkpoint.metric is not None and checkpoint.metric["tag"] == metric
        ]
        known = [score for score in scores if score is not None]
        return (max if mode == "max" else min)(known, default=None)

    def newest_first(self, *, best: bool) -> Iterator[IndexedCheckpoint]:
        """Yield the checkpoints to try: the periodic ones, the latest first, then the best; or the best alone."""
        found = [checkpoint for checkpoint in self.checkpoints() if checkpoint.best or not best]
        if best:
            # Each of the best was better than those before it, so the next best is the latest of the others.
            yield from sorted(found, key=lambda c: (_is_top(c), c.timestep or 0), reverse=True)
            return
        yield from sorted(found, key=lambda c: (not c.best, -1 if c.timestep is None else c.timestep), reverse=True)

    def read(self, indexed: IndexedCheckpoint) -> Checkpoint:
        """Read and verify one checkpoint, all its files.

        Raises:
            CorruptCheckpoint: if a file is damaged, or its files do not make one whole.
            NotFound: if a file has vanished.
            ConfigError: if no format of the file's extension is installed.
        """
        documents: dict[Path, Checkpoint] = {}
        for file in indexed.files.values():
            path = self.path / file.name
            if not path.exists():
                raise NotFound(f"`{path}` is listed in the index but is not there")
            documents[path] = store_for(path).load(path)
        return _whole(documents)


def _file_name(key: str, timestep: int, extension: str, *, best: bool) -> str:
    if not key or Path(key).name != key or key.startswith("."):
        raise InvalidValue(f"the module name `{key}` cannot be part of a file's name; register it without separators")
    return f"best_{key}{extension}" if best else f"{key}_{timestep}{extension}"


def _is_top(checkpoint: IndexedCheckpoint) -> bool:
    """Say whether a best checkpoint has the name of the very best, which carries no timestep."""
    return all(Path(file.name).stem == f"best_{key}" for key, file in checkpoint.files.items())


def _writer(store: CheckpointStore, document: Checkpoint) -> Callable[[BinaryIO], object]:
    return lambda file: store.write(document, file)


def _whole(documents: Mapping[Path, Checkpoint]) -> Checkpoint:
    """Return one checkpoint of several files, or of the one that holds all."""
    first_path, first = next(iter(documents.items()))
    modules: dict[str, Tree] = {}
    for path, document in documents.items():
        if document.metadata.get("timestep") != first.metadata.get("timestep"):
            raise CorruptCheckpoint(
                f"`{path}` is of timestep {document.metadata.get('timestep')}, but `{first_path}` of "
                f"{first.metadata.get('timestep')}; they do not belong together"
            )
        modules.update(_named_modules(path, document))
    if absent := set(first.metadata.get("modules", ())) - set(modules):
        raise CorruptCheckpoint(
            f"`{first_path}` belongs with files of {', '.join(sorted(absent))}, which are not there"
        )
    return Checkpoint(modules, {key: value for key, value in first.metadata.items() if key != "module"})


def _named_modules(path: Path, document: Checkpoint) -> dict[str, Tree]:
    """Return the modules of one file; another tool's file of one module has its name from the file's."""
    key = path.stem.removeprefix("best_")
    key = key.rpartition("_")[0] if key.rpartition("_")[2].isdigit() else key
    if document.metadata or key == GROUPED:
        return document.modules
    return {key: document.state}
