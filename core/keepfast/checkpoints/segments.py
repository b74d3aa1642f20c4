"""The segments of memories' logs, beside the checkpoints that need them: written before these, removed after them."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from keepfast._system.commit import commit_together, sweep
from keepfast._system.disk.special import leads_away
from keepfast._version import __version__
from keepfast.checkpoints.index import IndexedCheckpoint, IndexedFile
from keepfast.checkpoints.placing import key_of
from keepfast.errors import KeepfastError
from keepfast.interfaces.checkpoint_store import FORMAT_VERSION, Checkpoint, CheckpointMetadata, CheckpointStore
from keepfast.interfaces.loading.memory_log import (
    LOG,
    MemoryLog,
    NewRows,
    Segment,
    is_segment,
    path_of_segment,
)

NO_ROWS: Mapping[str, NewRows] = {}
"""Nothing new of any memory."""


@contextlib.contextmanager
def written(
    directory: Path, rows: Mapping[str, NewRows], store: CheckpointStore, doubtful: set[str]
) -> Iterator[dict[str, MemoryLog]]:
    """Write what is new of memories, durable before the block begins, and tell them of it once that is through.

    Args:
        directory: that of the checkpoints.
        rows: what is new, by the memory's name.
        store: the format.
        doubtful: gets the files that nothing may need, where the block raises.

    Yields:
        The log of each memory, with its new segment.

    Raises:
        WriteFailed: if the operating system refused.
    """
    files = {name: _file_of(name, each, store) for name, each in rows.items() if each.parts}
    doubtful.update(files.values())
    logs = {name: _written(directory, files.get(name), name, each, store) for name, each in rows.items()}
    yield logs
    doubtful.difference_update(files.values())
    for name, each in rows.items():
        each.durable(logs[name])


def _file_of(name: str, rows: NewRows, store: CheckpointStore) -> str:
    return f"{key_of(name)}{LOG}/segment_{rows.position}_{secrets.token_hex(4)}{store.extension}"


def _written(directory: Path, file: str | None, name: str, rows: NewRows, store: CheckpointStore) -> MemoryLog:
    if file is None:
        return rows.log
    path = path_of_segment(directory, file)
    about = CheckpointMetadata(format_version=FORMAT_VERSION, keepfast=__version__, module=name)
    commit_together({path: store.writing(Checkpoint(dict(rows.rows), about.as_mapping()))}, follow=False)
    made = IndexedFile.of(path)
    return rows.log.with_segment(Segment(file, made.size, made.digest, rows.parts))


def needed(checkpoints: Iterable[IndexedCheckpoint]) -> set[str]:
    """Return the segments that checkpoints need."""
    return {file for checkpoint in checkpoints for file in checkpoint.segments}


def present(directory: Path) -> set[str]:
    """Return the segments that are there."""
    logs = (log for log in directory.glob(f"*{LOG}") if not leads_away(log))
    files = (path.relative_to(directory).as_posix() for log in logs for path in log.glob("segment_*"))
    return {file for file in files if is_segment(file)}


def size_of_rows(directory: Path, checkpoint: IndexedCheckpoint) -> int:
    """Return the bytes of the segments that a checkpoint needs, which it may share with others; of what is there."""
    size = 0
    for file in checkpoint.segments:
        with contextlib.suppress(OSError):
            size += path_of_segment(directory, file).stat().st_size
    return size


def bytes_told(directory: Path, checkpoint: IndexedCheckpoint) -> str:
    """Return how large a checkpoint is: its own files, and the rows of memories in segments beside them."""
    own = f"{sum(file.size for file in checkpoint.files.values()):,}"
    return f"{own} + {size_of_rows(directory, checkpoint):,}" if checkpoint.segments else own


def sweep_logs(directory: Path) -> None:
    """Remove what killed saves left behind among the segments."""
    for log in directory.glob(f"*{LOG}"):
        if log.is_dir() and not leads_away(log):
            sweep(log)


def problem_of(directory: Path, segment: Segment) -> str | None:
    """Return what is wrong with a segment, each byte of it, or None."""
    path = path_of_segment(directory, segment.file)
    if not path.exists():
        return f"`{path}` is missing, and a checkpoint needs it for the rows of a memory"
    try:
        found = IndexedFile.of(path)
    except (OSError, KeepfastError) as error:
        return f"`{path}` cannot be read: {error}"
    if (found.size, found.digest) != (segment.size, segment.digest):
        return f"`{path}` is damaged, or another file: the rows of a memory in it are not those that were written"
    return None
