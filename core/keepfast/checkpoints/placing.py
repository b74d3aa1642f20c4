"""What each file of a checkpoint holds, what it is called, and how several make one again."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, final
from urllib.parse import quote

from keepfast.checkpoints.index import ASIDE, BEST, GROUPED
from keepfast.checkpoints.sharing.belonging import leading
from keepfast.errors import CorruptCheckpoint, InvalidValue
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata
from keepfast.tree import Tree, flatten

Form = Literal["periodic", "first", "best", "aside"]
"""What the name of a file of a checkpoint tells: it is a periodic one, the very best, another best, or set aside."""

_LONGEST = 200
"""The bytes of a module's name in a file's, which the timestep, what it is, and the extension follow."""

_DIGEST = 16
"""How many digits tell apart the names that are too long."""


def key_of(module: str) -> str:
    """Return what stands for a module in the names of its files: its name, with what no name of a file has escaped.

    A name that reads like one of ours, ``agent`` or ``best_x``, is escaped too, and one that is too long is cut, with a
    digest in the place of the rest. What the module is called stands in the file itself.

    Raises:
        InvalidValue: if it has no name.
    """
    if not module:
        raise InvalidValue("a module has no name, so that it can have no file of its own; register it under one")
    key = quote(module, safe=_SAFE) if any(sign in module for sign in _UNSAFE) or not module.isprintable() else module
    if key == GROUPED or key.startswith((BEST, ".")):
        key = f"%{ord(key[0]):02X}{key[1:]}"
    if len(os.fsencode(key)) > _LONGEST:
        digest = hashlib.sha256(module.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        key = os.fsencode(key)[: _LONGEST - _DIGEST - 1].decode("utf-8", "ignore") + f"~{digest}"
    return key


_UNSAFE = '/\\:*?"<>|%'
_SAFE = " !#$&'()+,;=@[]^`{}~"


def file_name(
    key: str,
    timestep: int,
    extension: str,
    *,
    best: bool,
    first: bool = False,
    aside: bool = False,
    keys: Container[str] = (),
) -> str:
    """Return the name of a file of a checkpoint; the first of the best has no timestep in its own.

    Args:
        key: what `key_of` returned, or that of the file of all modules.
        timestep: the completed timesteps.
        extension: the format's.
        best: whether it is one of the best.
        first: whether it is the very best.
        aside: whether it is what stands there while another takes its place.
        keys: those of all files there may be. The best of `x` at timestep 5 is no ``best_x_5``, which is the first of
            `x_5`, but ``best_x_05``.
    """
    if first:
        return f"{BEST}{key}{extension}"
    ending, number = ASIDE if aside else "", str(timestep)
    while best and f"{key}_{number}{ending}" in keys:
        number = f"0{number}"
    return f"{BEST if best else ''}{key}_{number}{ending}{extension}"


def form_of(stem: str, key: str, timestep: int) -> Form | None:
    """Return what the name of a file, without its extension, tells of a key's file at a timestep, or None.

    It is read by the key and the timestep that the file itself tells: ``best_x_5`` may be of `x` and of `x_5`.
    """
    if stem == f"{BEST}{key}":
        return "first"
    found = re.fullmatch(rf"(?P<best>{BEST})?{re.escape(key)}_(?P<zeros>0*){timestep}(?P<aside>{ASIDE})?", stem)
    if found is None or (found["zeros"] and not found["best"]):
        return None
    return "aside" if found["aside"] else "best" if found["best"] else "periodic"


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
    return {key_of(name): Checkpoint(tree, replace(shared, module=name).as_mapping()) for name, tree in state.items()}


@final
class IncompleteSet(CorruptCheckpoint):
    """Some files of a checkpoint of several are there, and others are not."""


def whole(documents: Mapping[Path, Checkpoint]) -> Checkpoint:
    """Return one checkpoint of several files, or of the one that holds all.

    Raises:
        CorruptCheckpoint: if the files do not belong together, or, as an `IncompleteSet`, one is missing.
    """
    first = leading(document.about for document in documents.values())
    if first is None:
        raise _strangers(documents)
    modules: dict[str, Tree] = {}
    for path, document in documents.items():
        modules.update(_named_modules(path, document))
    if absent := set(first.modules or ()) - set(modules):
        path = next(iter(documents))
        raise IncompleteSet(f"`{path}` belongs with files of {', '.join(sorted(absent))}, which are not there")
    return Checkpoint(modules, replace(first, module=None, set=None, unchanged=None).as_mapping())


def _strangers(documents: Mapping[Path, Checkpoint]) -> CorruptCheckpoint:
    """Return what says why files do not belong together."""
    told = {path: document.about for path, document in documents.items()}
    first_path, first = next(iter(told.items()))
    for path, about in told.items():
        if about.timestep != first.timestep and not (about.unchanged or first.unchanged):
            return CorruptCheckpoint(
                f"`{path}` is of timestep {about.timestep}, but `{first_path}` of {first.timestep}; they do not belong "
                "together"
            )
    other = next((path for path, about in told.items() if about.set != first.set), first_path)
    return CorruptCheckpoint(
        f"`{other}` and `{first_path}` were not written at the same time; they do not belong together"
    )


def _named_modules(path: Path, document: Checkpoint) -> dict[str, Tree]:
    """Return the modules of one file; another tool's file of one module has its name from the file's."""
    key = path.stem.removeprefix("best_")
    key = key.rpartition("_")[0] if key.rpartition("_")[2].isdigit() else key
    if document.about.written_by_keepfast or key == GROUPED:
        return document.modules
    return {key: document.state}
