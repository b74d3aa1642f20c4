"""Finds the checkpoint format of a file."""

from __future__ import annotations

from pathlib import Path

from keepfast.checkpoint import Checkpoint, CheckpointStore
from keepfast.errors import ConfigError, NotFound
from keepfast.plugins import registry


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
        CorruptCheckpoint: if it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        what = "a directory, not a checkpoint file" if path.is_dir() else "not there"
        raise NotFound(f"cannot load `{path}`: it is {what}")
    return store_for(path).load(path)
