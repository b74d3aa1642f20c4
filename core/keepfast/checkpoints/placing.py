"""What each file of a checkpoint holds, what it is called, and how several make one again."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from keepfast.checkpoints.index import (
    BEST,
    GROUPED,
)
from keepfast.errors import CorruptCheckpoint, InvalidValue
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata
from keepfast.tree import Tree, flatten

_LONGEST = 200
"""The bytes of a module's name in a file's, which the timestep, what it is, and the extension follow."""


def file_name(key: str, timestep: int, extension: str, *, best: bool, first: bool) -> str:
    """Return the name of a file of a checkpoint; the first of the best has no timestep in its own.

    Raises:
        InvalidValue: if the module's name cannot be part of a file's.
    """
    if not key or Path(key).name != key or key.startswith("."):
        raise InvalidValue(f"the module name `{key}` cannot be part of a file's name; register it without separators")
    if len(os.fsencode(key)) > _LONGEST:
        raise InvalidValue(
            f"the module name `{key}` has {len(os.fsencode(key))} bytes; allowed in the name of a file: {_LONGEST}"
        )
    prefix = BEST if best else ""
    return f"{prefix}{key}{extension}" if first else f"{prefix}{key}_{timestep}{extension}"


def documents_of(state: Mapping[str, Tree], metadata: CheckpointMetadata, *, separately: bool) -> dict[str, Checkpoint]:
    """Return what each file holds, by its key; those of a separate set know each other by an id.

    Raises:
        InvalidValue: if two entries of a module have one path.
    """
    for tree in state.values():
        flatten(tree)  # they could be stored, but neither told apart nor restored
    if not separately:
        return {GROUPED: Checkpoint(state, metadata.as_mapping())}
    shared = replace(metadata, set=secrets.token_hex(8))
    return {key: Checkpoint(tree, replace(shared, module=key).as_mapping()) for key, tree in state.items()}


def whole(documents: Mapping[Path, Checkpoint]) -> Checkpoint:
    """Return one checkpoint of several files, or of the one that holds all.

    Raises:
        CorruptCheckpoint: if the files do not belong together, or one is missing.
    """
    first_path, first = next((path, document.about) for path, document in documents.items())
    modules: dict[str, Tree] = {}
    for path, document in documents.items():
        if document.about.timestep != first.timestep:
            raise CorruptCheckpoint(
                f"`{path}` is of timestep {document.about.timestep}, but `{first_path}` of {first.timestep}; they do "
                "not belong together"
            )
        if document.about.set != first.set:
            raise CorruptCheckpoint(
                f"`{path}` and `{first_path}` were not written at the same time; they do not belong together"
            )
        modules.update(_named_modules(path, document))
    if absent := set(first.modules or ()) - set(modules):
        raise CorruptCheckpoint(
            f"`{first_path}` belongs with files of {', '.join(sorted(absent))}, which are not there"
        )
    return Checkpoint(modules, replace(first, module=None, set=None).as_mapping())


def _named_modules(path: Path, document: Checkpoint) -> dict[str, Tree]:
    """Return the modules of one file; another tool's file of one module has its name from the file's."""
    key = path.stem.removeprefix("best_")
    key = key.rpartition("_")[0] if key.rpartition("_")[2].isdigit() else key
    if document.about.written_by_keepfast or key == GROUPED:
        return document.modules
    return {key: document.state}
