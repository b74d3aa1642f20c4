"""Finds the format of a checkpoint or a memory file."""

from __future__ import annotations

import re
from pathlib import Path

from keepfast.errors import (
    ConfigError,
    CorruptCheckpoint,
    InvalidValue,
    MissingDependency,
    NotFound,
    did_you_mean,
)
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.interfaces.memory_exporter import MemoryExporter
from keepfast.plugins.discovery import registry


def stores() -> dict[str, CheckpointStore]:
    """Return every checkpoint format that is ready to use, by extension."""
    made: list[CheckpointStore] = registry().make_ready("checkpoint format")
    return {store.extension: store for store in made}


def store_for(path: Path) -> CheckpointStore:
    """Return the format that a file's extension belongs to.

    Raises:
        ConfigError: if no format has that extension.
    """
    known = stores()
    if path.suffix not in known:
        raise ConfigError(
            f"cannot tell the checkpoint format of `{path}` by its extension; known: {', '.join(sorted(known))}"
        )
    return known[path.suffix]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read and verify a checkpoint file of any known format.

    Raises:
        NotFound: if there is no such file.
        ConfigError: if its extension is of no known format.
        CorruptCheckpoint: if it is damaged, or its metadata is not what Keepfast writes.
    """
    path = Path(path)
    if not path.is_file():
        what = "a directory, not a checkpoint file" if path.is_dir() else "not there"
        raise NotFound(f"cannot load `{path}`: it is {what}")
    checkpoint = store_for(path).load(path)
    try:
        _ = checkpoint.about
    except InvalidValue as error:
        raise CorruptCheckpoint(f"`{path}` is damaged: its metadata makes no sense: {error}") from error
    return checkpoint


def exporter_named(format: str) -> MemoryExporter:  # noqa: A002  (the design's name)
    """Return the exporter of a memory format.

    Raises:
        UnknownPlugin: if nobody provides it; lists the known ones and the nearest.
        MissingDependency: if it needs a package that is not installed.
    """
    made: MemoryExporter = registry().get("memory format", format)()
    return made


def exporter_of(path: Path) -> MemoryExporter:
    """Return the exporter of the format that a file's name ends with.

    Raises:
        InvalidValue: if no memory format has such an extension; tells which formats could not be asked.
        MissingDependency: if the format of that name needs a package that is not installed.
    """
    suffix = path.suffix.removeprefix(".")
    known, silent = [], []
    # The one whose name it is comes first: most files then need no other format, nor the packages of others.
    for provided in sorted(registry().provided("memory format"), key=lambda provided: provided.name != suffix):
        try:
            made: MemoryExporter = provided.factory()
        except MissingDependency as error:
            if provided.name == suffix:
                raise
            silent.append(f"`{provided.name}`: {error}")
        except Exception as error:  # noqa: BLE001  (a broken format hurts nobody who did not ask for it)
            silent.append(f"`{provided.name}` is broken: {type(error).__name__}: {error}")
        else:
            if made.owns(path):
                return made
            known.append(made.extension)
    hints = "".join(f"\n{line}" for line in silent)
    if path.is_dir():
        way = f"give one memory file, or `iter_memories('{path}/*')` for all"
        raise InvalidValue(f"`{path}` is a directory; {way}{hints}")
    raise InvalidValue(f"`{path}` has the extension of no memory format{did_you_mean(path.suffix, known)}{hints}")


def numeric_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in names as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
