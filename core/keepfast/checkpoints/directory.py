"""A run's checkpoint directory: writes, finds, reads and removes checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

from keepfast._system.commit import Content, Filling, Unnamed, commit_together, link, make_durable, sweep
from keepfast._system.disk.directories import is_copy_of, make_directory, names_in, sync_directory
from keepfast._system.disk.sparing import put_aside
from keepfast._system.disk.special import leads_away
from keepfast._system.remote.elsewhere import bring, names_elsewhere
from keepfast._system.tally import Tally
from keepfast.checkpoints import segments
from keepfast.checkpoints.index import (
    ASIDE,
    GROUPED,
    INDEX,
    IndexedCheckpoint,
    IndexedFile,
    exclusive,
    index_of,
    read_index,
    write_index,
)
from keepfast.checkpoints.placing import documents_of, file_name, key_of, whole
from keepfast.checkpoints.retention import Retention
from keepfast.checkpoints.scan import adoptable, merged, unlisted_segments
from keepfast.checkpoints.sharing.unchanged import Unchanged
from keepfast.errors import NotFound
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata, CheckpointStore
from keepfast.interfaces.format import DirectoryFormat
from keepfast.interfaces.loading.memory_log import LOG, NewRows
from keepfast.plugins.formats import owner_of, read_checkpoint, stores
from keepfast.tree import Tree


@final
class CheckpointDirectory:
    """The checkpoints of one run.

    Args:
        path: the directory, made at the first write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._doubtful: set[str] = set()
        self._unchanged = Unchanged()
        self.spared = Tally()
        """What had the name of a checkpoint and was none of ours, by its path; why is the name that it has now."""
        self._unsynced: list[IndexedCheckpoint] = []
        """What was removed since the directory was fsynced last, and may be there again after a loss of power."""

    def sweep(self) -> None:
        """Remove what killed saves left behind."""
        if not self.path.is_dir():
            return
        sweep(self.path)
        segments.sweep_logs(self.path)
        with exclusive(self.path):
            listed = {name for checkpoint in read_index(self.path) for name in checkpoint.names}
            for aside in self.path.glob(f"*{ASIDE}.*"):
                original = aside.with_stem(aside.stem.removesuffix(ASIDE))
                if aside.name not in listed and is_copy_of(aside, original):
                    self._remove([aside.name])

    def write(
        self,
        state: Mapping[str, Tree],
        metadata: CheckpointMetadata,
        store: CheckpointStore,
        *,
        separately: bool,
        best: bool,
        retention: Retention,
        rows: Mapping[str, NewRows] = segments.NO_ROWS,
        last: bool = True,
    ) -> IndexedCheckpoint:
        """Write one checkpoint, list it in the index, and remove what the retention lets go; durable when it returns.

        Args:
            state: each module's host tree by name.
            metadata: what is stored beside them; the timestep is in it.
            store: the format.
            separately: whether each module gets a file of its own.
            best: whether it is the best so far rather than a periodic one.
            retention: what stays.
            rows: what is new of memories, by name, whose state has no tensors then; each gets a segment, which is on
                disk before the checkpoint is there.
            last: whether no other is written right behind it, which removes what is to go, and makes both durable.

        Raises:
            WriteFailed: if the operating system refused; earlier checkpoints are untouched.
            InvalidValue: if a module's name cannot be part of a file's name, or its tree cannot be stored.
        """
        documents = documents_of(state, metadata, separately=separately)
        make_directory(self.path)
        with exclusive(self.path):
            self._adopt()
            self._remove_doubtful()
            with segments.written(self.path, rows, store, self._doubtful) as logs:
                if logs:
                    told = {name: log.as_mapping() for name, log in logs.items()}
                    metadata = replace(metadata, logs=told)
                    documents = {key: _with_logs(document, told) for key, document in documents.items()}
                return self._write(documents, metadata, store, retention, best=best, last=last)

    def _write(
        self,
        documents: Mapping[str, Checkpoint],
        metadata: CheckpointMetadata,
        store: CheckpointStore,
        retention: Retention,
        *,
        best: bool,
        last: bool,
    ) -> IndexedCheckpoint:
        timestep = metadata.timestep
        assert timestep is not None  # noqa: S101  (the caller's duty)
        first = best and self._is_first(metadata, retention)
        names = {
            key: file_name(key, timestep, store.extension, best=best, first=first, keys=documents) for key in documents
        }
        # Neither several names nor that of a directory change in one step.
        if GROUPED not in documents or (best and retention.keep_best > 1) or isinstance(store, DirectoryFormat):
            self._set_aside(set(names.values()), set(documents))
        documents, shared = self._unchanged.shared(documents, store, best=best)
        contents = {name: shared.get(key) or store.writing(documents[key]) for key, name in names.items()}
        unwritten = IndexedCheckpoint(timestep, best, {key: IndexedFile(name, 0) for key, name in names.items()})
        written = self._commit(unwritten, metadata, contents, retention, store, last=last)
        self._unchanged.take_note(self.path, written, documents, shared)
        return written

    def _commit(
        self,
        unwritten: IndexedCheckpoint,
        metadata: CheckpointMetadata,
        contents: Mapping[str, Content],
        retention: Retention,
        store: CheckpointStore,
        *,
        last: bool,
    ) -> IndexedCheckpoint:
        """Write files by name and the index of them, all or none; then remove what the retention lets go."""
        written, gone = unwritten, list[IndexedCheckpoint]()
        unneeded = set[str]()

        def index(unnamed: Mapping[Path, Unnamed]) -> Mapping[Path, Content]:
            nonlocal written, gone, unneeded
            names = {key: file.name for key, file in unwritten.files.items()}
            files = {key: IndexedFile.written(unnamed[self.path / name], name) for key, name in names.items()}
            written = replace(replace(unwritten, files=files).described_by(metadata), own=True)
            others = self._others(written)
            gone = self._removable(written, others, retention) if last else []
            kept = _without(gone, [*others, written])
            unneeded = segments.needed(read_index(self.path)) - segments.needed(kept)
            listed = {name for checkpoint in (*kept, *gone) for name in checkpoint.names}
            back = [checkpoint for checkpoint in self._unsynced if not checkpoint.names & listed]
            return {self.path / INDEX: index_of(kept, [*gone, *back])}

        files = {self.path / name: content for name, content in contents.items()}
        before = partial(self._spare, store)
        if len(files) == 1 and not any(isinstance(content, Filling) for content in files.values()):
            commit_together(files, index, durable=last, follow=False, before=before)
        else:  # of which a loss of power may keep a part: the index is of what is durable
            later = dict[Path, Content]()
            commit_together(files, lambda unnamed: later.update(index(unnamed)) or {}, follow=False, before=before)
            commit_together(later, follow=False)
        if last:  # what was removed before is behind an fsync now
            self._unsynced = gone
        self._remove({name for checkpoint in gone for name in checkpoint.names})
        self._remove(unneeded)
        return written

    def _spare(self, store: CheckpointStore, path: Path) -> None:
        """Give what has the name of a checkpoint and was not written by Keepfast another one, and take note of it."""
        if path.name != INDEX and os.path.lexists(path) and not path.is_symlink() and not _is_of(store, path):
            self.spared.count(str(path), str(put_aside(path)))

    def _finish_removing(self) -> None:
        """Remove what is left of checkpoints that retention was about to remove, where all that was to stay is there.

        A loss of power may leave such a checkpoint without the rows of its memory, which were removed after it.
        """
        listed = read_index(self.path)
        going = [checkpoint for checkpoint in listed if checkpoint.going]
        kept = [checkpoint for checkpoint in listed if not checkpoint.going]
        names, elsewhere = {name for checkpoint in kept for name in checkpoint.names}, names_elsewhere(self.path)
        if going and all((self.path / name).exists() for name in names - elsewhere):
            self._remove({name for checkpoint in going for name in checkpoint.names} - names)
            self._remove(segments.needed(going) - segments.needed(kept))
            sync_directory(self.path)

    def _remove_doubtful(self) -> None:
        """Remove the segments of checkpoints that did not come to be."""
        if self._doubtful:
            self._remove(self._doubtful - segments.needed(read_index(self.path)))
            self._doubtful.clear()

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files and directories of which a format knows that Keepfast wrote them, whatever the index says."""
        paths = [self.path / name for name in names]
        formats = stores() if paths else {}
        for path in paths:
            if path.parent != self.path and leads_away(path.parent):
                continue  # it is a link to the rows of another run
            if (owner := owner_of(path, formats)) is not None and owner.wrote(path):
                path.unlink() if path.is_symlink() else owner.remove(path)

    def _is_ours(self, name: str) -> bool:
        owner = owner_of(self.path / name)
        return owner is not None and (self.path / name).exists() and _is_of(owner, self.path / name)

    def _is_first(self, metadata: CheckpointMetadata, retention: Retention) -> bool:
        """Say whether a best checkpoint is the very best, which alone has no timestep in its name."""
        metric = metadata.metric
        if metric is None or retention.keep_best <= 1:
            return True
        others = _scores(read_index(self.path), metric["tag"])
        best = (max if retention.mode == "max" else min)([*others, metric["value"]])
        return best not in others

    def _set_aside(self, names: set[str], keys: set[str]) -> None:
        """Give the files that are about to be replaced another name, so that a kill leaves the one set or the other.

        Args:
            names: the names of the new ones.
            keys: their keys.
        """
        listed = read_index(self.path)
        replaced = [found for found in listed if found.names & names]
        if not replaced:
            return
        aside = [self._linked_aside(found, names, keys) for found in replaced]
        taken = {name for found in aside for name in found.names}
        sync_directory(self.path)
        write_index(self.path, [found for found in listed if not found.names & (names | taken)] + aside)
        self._remove({name for found in replaced for name in found.names} - names)

    def _linked_aside(self, checkpoint: IndexedCheckpoint, names: set[str], keys: set[str]) -> IndexedCheckpoint:
        """Return a checkpoint by its other names: of the very best those of another best, where they are free."""
        keys = keys | checkpoint.files.keys()
        others = _other_names(checkpoint, keys, aside=not checkpoint.best)
        if set(others.values()) & (names | checkpoint.names):
            others = _other_names(checkpoint, keys, aside=True)
        present = {key: file.name for key, file in checkpoint.files.items() if self._is_ours(file.name)}
        self._remove(others[key] for key in present)
        for key, name in present.items():
            link(self.path / name, self.path / others[key])
        files = {key: replace(file, name=others[key]) for key, file in checkpoint.files.items()}
        return replace(checkpoint, files=files)

    def _others(self, written: IndexedCheckpoint) -> list[IndexedCheckpoint]:
        """Return what is listed and there beside a checkpoint that takes the place of whatever has its names."""
        there = names_in(self.path) | names_elsewhere(self.path)
        return [
            replace(checkpoint, going=False) if checkpoint.going else checkpoint
            for checkpoint in read_index(self.path)
            if not checkpoint.names & written.names and checkpoint.names & there
        ]

    def _removable(
        self, written: IndexedCheckpoint, others: Sequence[IndexedCheckpoint], retention: Retention
    ) -> list[IndexedCheckpoint]:
        live = {_place(checkpoint) for checkpoint in (*others, written) if not _is_stand_in(checkpoint)}
        gone = [found for found in others if found.own and _is_stand_in(found) and _place(found) in live]
        kept = _without(gone, [*others, written])
        # What was just written stays, also where a resume from further back left later ones behind.
        return gone + [checkpoint for checkpoint in retention.removable(kept) if checkpoint is not written]

    def make_durable(self) -> None:
        """Have what was written last, with more to follow that did not, survive a power loss.

        Raises:
            WriteFailed: if the operating system refused.
        """
        make_durable(self.path / INDEX)

    def adopt(self) -> None:
        """List what the index lacks of Keepfast's own checkpoints, as where it was lost, and what it has wrong.

        A loss of power may leave an index beside files of before, or the reverse: of the best, whose files are
        replaced, and of what was written last. These are read; no others are, where the index is whole.

        Raises:
            WriteFailed: if the operating system refused to write the index.
        """
        if self.path.is_dir():
            with exclusive(self.path):
                self._finish_removing()
                listed = read_index(self.path)
                latest = max((checkpoint.time for checkpoint in listed), default=None)
                doubtful = [checkpoint for checkpoint in listed if checkpoint.best or checkpoint.time == latest]
                self._adopt([checkpoint for checkpoint in doubtful if not self._is_as_listed(checkpoint)])
                if orphans := segments.present(self.path) - segments.needed(listed := read_index(self.path)):
                    others = unlisted_segments(self.path, listed)
                    self._remove(set() if others is None else orphans - others)

    def _is_as_listed(self, checkpoint: IndexedCheckpoint) -> bool:
        paths = {self.path / file.name: file for file in checkpoint.files.values() if file.digest}
        try:
            return all(IndexedFile.of(path) == file for path, file in paths.items() if path.exists())
        except OSError:  # it cannot be read now, which says nothing of what it holds
            return True

    def _adopt(self, wrong: Sequence[IndexedCheckpoint] = ()) -> None:
        listed = read_index(self.path)
        if found := adoptable(self.path, [checkpoint for checkpoint in listed if checkpoint not in wrong]):
            names = {name for checkpoint in found for name in checkpoint.names}
            # What is wrong and was not found is damaged, and known for what it was.
            kept = [checkpoint for checkpoint in listed if checkpoint not in wrong or not checkpoint.names & names]
            write_index(self.path, [*kept, *found])

    def supersede(self, after: int) -> None:
        """Mark the checkpoints of later timesteps as abandoned: training went on from a timestep before them.

        They are no longer the latest, and the first that retention removes; the best among them remain the best.

        Args:
            after: the completed timesteps that training went on from.

        Raises:
            WriteFailed: if the operating system refused to write the index.
        """
        if not self.path.is_dir():
            return
        with exclusive(self.path):
            self._adopt()
            listed = read_index(self.path)
            later = [checkpoint for checkpoint in self.checkpoints() if (checkpoint.timestep or 0) > after]
            marked = [replace(checkpoint, superseded=True) for checkpoint in later]
            if later != marked:
                names = {name for checkpoint in later for name in checkpoint.names}
                write_index(self.path, [found for found in listed if not found.names & names] + marked)

    def checkpoints(self) -> list[IndexedCheckpoint]:
        """Return every checkpoint there is, indexed or not, by timestep."""
        return merged(self.path)

    def best_scores(self, metric: str) -> list[float]:
        """Return the scores that the best checkpoints were judged by, those of another metric left out."""
        return _scores(self.checkpoints(), metric)

    def best_score(self, mode: str, metric: str) -> float | None:
        """Return the best score that any stored checkpoint was judged by, or None."""
        return (max if mode == "max" else min)(self.best_scores(metric), default=None)

    def newest_first(self, *, best: bool) -> Iterator[IndexedCheckpoint]:
        """Yield the checkpoints to try: the periodic ones, the latest first, then the best; or the best alone.

        Superseded ones are not among them, unless there are no others.
        """
        found = [checkpoint for checkpoint in self.checkpoints() if checkpoint.best or not best]
        if best:
            # Each of the best was better than those before it, so the next best is the latest of the others.
            yield from sorted(found, key=lambda c: (_is_top(c), c.timestep or 0), reverse=True)
            return
        live = [checkpoint for checkpoint in found if not checkpoint.superseded]
        yield from sorted(live or found, key=_age, reverse=True)

    def read(self, indexed: IndexedCheckpoint, wanted: Container[str] | None = None) -> Checkpoint:
        """Read and verify one checkpoint, all its files.

        Args:
            indexed: the checkpoint.
            wanted: the names of the modules that are asked for; see `read_checkpoint`.

        Raises:
            CorruptCheckpoint: if a file is damaged, or its files do not make one whole.
            NotFound: if a file has vanished.
            RemoteError: if a file is on an object store, and cannot be had from there.
            ConfigError: if no format has the file's extension.
            MissingDependency: if its format needs a package that is not installed; says what to run.
        """
        self._bring(indexed, wanted)
        documents: dict[Path, Checkpoint] = {}
        for file in indexed.files.values():
            path = self.path / file.name
            if not path.exists():
                raise NotFound(f"`{path}` is listed in the index but is not there")
            documents[path] = read_checkpoint(path, wanted)
        return whole(documents)

    def _bring(self, indexed: IndexedCheckpoint, wanted: Container[str] | None) -> None:
        """Have its files here, and what it needs of the logs of memories that are asked for."""
        unwanted = {key_of(name) for name in indexed.modules if wanted is not None and name not in wanted}
        needed = [name for name in indexed.segments if name.partition("/")[0].removesuffix(LOG) not in unwanted]
        for name in (*indexed.names, *needed):
            bring(self.path / name)


def _is_of(store: CheckpointStore, path: Path) -> bool:
    try:
        return path.is_dir() == isinstance(store, DirectoryFormat) and store.wrote(path)
    except OSError:  # who cannot read it cannot know
        return False


def _with_logs(document: Checkpoint, logs: Mapping[str, Any]) -> Checkpoint:
    return replace(document, metadata={**document.metadata, "logs": logs})


def _scores(checkpoints: Sequence[IndexedCheckpoint], metric: str) -> list[float]:
    judged = (found for found in checkpoints if found.best and found.metric is not None)
    scores = [found.score for found in judged if found.metric and found.metric["tag"] == metric]
    return [score for score in scores if score is not None and math.isfinite(score)]


def _age(checkpoint: IndexedCheckpoint) -> tuple[bool, int, float]:
    return not checkpoint.best, -1 if checkpoint.timestep is None else checkpoint.timestep, checkpoint.time


def _other_names(checkpoint: IndexedCheckpoint, keys: set[str], *, aside: bool) -> dict[str, str]:
    """Return how the files of a checkpoint, by key, are called while others take their names."""
    timestep, best = checkpoint.timestep or 0, checkpoint.best
    return {
        key: file_name(key, timestep, Path(file.name).suffix, best=best, aside=aside, keys=keys)
        for key, file in checkpoint.files.items()
    }


def _is_stand_in(checkpoint: IndexedCheckpoint) -> bool:
    """Say whether it was set aside, or is a periodic one that was superseded: it gives way to another in its place."""
    return checkpoint.is_aside or (checkpoint.superseded and not checkpoint.best)


def _place(checkpoint: IndexedCheckpoint) -> tuple[int | None, bool]:
    return checkpoint.timestep, checkpoint.best


def _without(some: Iterable[IndexedCheckpoint], checkpoints: Iterable[IndexedCheckpoint]) -> list[IndexedCheckpoint]:
    """Return checkpoints but for some of them, which are known by their being the same objects."""
    left_out = set(map(id, some))
    return [checkpoint for checkpoint in checkpoints if id(checkpoint) not in left_out]


def _is_top(checkpoint: IndexedCheckpoint) -> bool:
    """Say whether a best checkpoint has the name of the very best, which carries no timestep."""
    return all(Path(file.name).stem == f"best_{key}" for key, file in checkpoint.files.items())
