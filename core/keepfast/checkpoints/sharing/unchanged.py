"""Finds the modules that did not change since a checkpoint before, whose files this run wrote and need no other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

from keepfast import codec
from keepfast._system.disk.sharing import Identity, Linked, identity_of, linked_to
from keepfast.checkpoints.index import GROUPED, IndexedCheckpoint
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.interfaces.format import DirectoryFormat

_OF_ITS_TIME = {"time", "timestep", "metric", "resume", "logs", "set", "unchanged"}
"""What a file tells of the checkpoint that it was written for, rather than of its module."""


@final
@dataclass(frozen=True)
class _Written:
    """A file of a module, as this run wrote it."""

    path: Path
    identity: Identity
    metadata: Mapping[str, Any]


@final
class Unchanged:
    """Remembers how the files of modules were written, of the latest checkpoint and of the latest of the best."""

    def __init__(self) -> None:
        self._written: dict[tuple[str, bool], _Written] = {}
        self._is_off = False

    def shared(
        self, documents: Mapping[str, Checkpoint], store: CheckpointStore, *, best: bool
    ) -> tuple[dict[str, Checkpoint], dict[str, Linked]]:
        """Return what files hold, and by its key each that is to be another name of one that is there.

        Those that are written name the others. One is, at least: it tells of the checkpoint.

        Args:
            documents: what each file is to hold, by its key.
            store: the format.
            best: whether the checkpoint is one of the best.
        """
        if self._is_off or len(documents) < 2 or GROUPED in documents or isinstance(store, DirectoryFormat):
            return dict(documents), {}
        found = {key: each for key in documents if (each := self._same(key, documents[key], store, best=best))}
        if len(found) == len(documents):
            del found[min(found, key=lambda key: found[key][1].size)]
        held = {key: written for key, (written, _) in found.items()}
        sets = {str(each["module"]): str(each["set"]) for each in held.values()}
        told = {key: _naming(document, sets) for key, document in documents.items()} if sets else documents
        kept = {key: replace(told[key], metadata=metadata) for key, metadata in held.items()}
        return {**told, **kept}, {key: linked for key, (_, linked) in found.items()}

    def _same(
        self, key: str, document: Checkpoint, store: CheckpointStore, *, best: bool
    ) -> tuple[Mapping[str, Any], Linked] | None:
        for written in self._candidates(key, best=best):
            if _tells_the_same(written.metadata, document):
                write = partial(store.write, replace(document, metadata=written.metadata))
                if (linked := linked_to(written.path, written.identity, write)) is not None:
                    return written.metadata, linked
        return None

    def _candidates(self, key: str, *, best: bool) -> Iterator[_Written]:
        known = [self._written[place] for place in ((key, best), (key, not best)) if place in self._written]
        yield from {written.identity: written for written in known}.values()

    def take_note(
        self,
        directory: Path,
        written: IndexedCheckpoint,
        documents: Mapping[str, Checkpoint],
        shared: Mapping[str, Linked],
    ) -> None:
        """Remember the files of a checkpoint, which are durable, and share no more where a link was refused."""
        for key, file in written.files.items():
            identity = identity_of(path := directory / file.name)
            self._is_off |= key in shared and identity != shared[key].identity
            self._written.pop((key, written.best), None)
            if identity is not None and key != GROUPED:
                self._written[key, written.best] = _Written(path, identity, documents[key].metadata)


def _naming(document: Checkpoint, sets: Mapping[str, str]) -> Checkpoint:
    return replace(document, metadata={**document.metadata, "unchanged": sets})


def _tells_the_same(metadata: Mapping[str, Any], document: Checkpoint) -> bool:
    """Say whether a file tells of its module what another is to tell, of the rows of a memory too."""
    name = document.metadata.get("module")
    if (metadata.get("logs") or {}).get(name) != (document.metadata.get("logs") or {}).get(name):
        return False
    own, other = (
        {key: value for key, value in told.items() if key not in _OF_ITS_TIME} for told in (metadata, document.metadata)
    )
    return codec.dumps(own) == codec.dumps(other)
