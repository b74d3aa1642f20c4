"""Checks files against what they and their index say of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from keepfast._system.remote.elsewhere import bring
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import (
    CHECKPOINTS,
    INDEX,
    IndexedCheckpoint,
    IndexedFile,
    exclusive,
    file_digest,
    index_problem,
    read_index,
)
from keepfast.checkpoints.placing import whole
from keepfast.checkpoints.scan import merged
from keepfast.checkpoints.segments import problem_of
from keepfast.errors import CorruptCheckpoint, KeepfastError, NotFound
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.interfaces.loading.memory_log import MemoryLog, Segment, path_of_segment
from keepfast.plugins.formats import is_checkpoint, read_checkpoint
from keepfast.plugins.locations import located


@final
@dataclass(frozen=True)
class Verdict:
    """Whether one file is as it was written.

    Attributes:
        path: the file.
        problem: what is wrong with it, or None.
    """

    path: Path
    problem: str | None


def verify(path: str | Path) -> Iterator[Verdict]:
    """Verify one checkpoint file, or every checkpoint of a run, each byte of it.

    Args:
        path: a checkpoint, a directory of checkpoints, or a run's directory.

    Yields:
        A verdict for each file, as soon as it is there: also for those that are listed but gone, for an index that
        cannot be read, and for separate files that do not make one checkpoint.

    Raises:
        NotFound: if there is nothing to verify.
    """
    path = located(path, metrics=False)
    bring(path)
    segments: dict[str, Segment] = {}
    if is_checkpoint(path):
        yield _verify_file(path, _indexed(path), {}, segments)
        yield from _verify_segments(path.parent, segments)
        return
    directory = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    problem = index_problem(directory)
    checkpoints = merged(directory, vanished=True)
    if not checkpoints and problem is None:
        raise NotFound(f"there is no checkpoint to verify at `{path}`")
    if problem is not None:
        yield Verdict(directory / INDEX, problem)
    for checkpoint in checkpoints:
        yield from _verify_checkpoint(directory, checkpoint, segments)
    yield from _verify_segments(directory, segments)


def _verify_segments(directory: Path, segments: Mapping[str, Segment]) -> Iterator[Verdict]:
    for segment in segments.values():
        yield Verdict(path_of_segment(directory, segment.file), problem_of(directory, segment))


def _verify_checkpoint(
    directory: Path, checkpoint: IndexedCheckpoint, segments: dict[str, Segment]
) -> Iterator[Verdict]:
    documents, needed = dict[Path, Checkpoint](), dict[str, Segment]()
    for file in checkpoint.files.values():
        if (directory / file.name).exists():
            yield _verify_file(directory / file.name, file, documents, needed)
    there = (name for name in needed if not checkpoint.going or path_of_segment(directory, name).exists())
    segments.update({name: needed[name] for name in there})
    gone = [] if checkpoint.going else [name for name in _names(checkpoint) if not (directory / name).exists()]
    listed = _listed(directory) if gone else set()  # retention may have removed them since the index was read
    for path in (directory / name for name in gone if name in listed):
        yield Verdict(path, f"`{path}` is listed in the index but is not there")
    if len(documents) == len(checkpoint.files):
        try:
            whole(documents)
        except CorruptCheckpoint as error:
            yield Verdict(directory / min(checkpoint.names), str(error))


def _names(checkpoint: IndexedCheckpoint) -> list[str]:
    return [file.name for file in checkpoint.files.values()]


def _listed(directory: Path) -> set[str]:
    with exclusive(directory):
        return {name for checkpoint in read_index(directory) for name in checkpoint.names}


def _indexed(path: Path) -> IndexedFile | None:
    checkpoints = CheckpointDirectory(path.parent).checkpoints()
    files = (file for checkpoint in checkpoints for file in checkpoint.files.values())
    return next((file for file in files if file.name == path.name), None)


def _verify_file(
    path: Path, indexed: IndexedFile | None, documents: dict[Path, Checkpoint], segments: dict[str, Segment]
) -> Verdict:
    """Return the verdict on a file, whose content joins the documents if it is good, and what it needs the segments."""
    if indexed is not None and not path.exists():
        return Verdict(path, f"`{path}` is listed in the index but is not there")
    try:
        document = read_checkpoint(path, wanted=())
        logs = [MemoryLog.of(told) for told in (document.about.logs or {}).values()]
    except (KeepfastError, OSError) as error:
        return Verdict(path, str(error))
    if indexed is not None and indexed.digest and file_digest(path) != indexed.digest:
        return Verdict(path, f"`{path}` is whole, but not the file that the index lists under this name")
    documents[path] = document
    segments.update({segment.file: segment for log in logs for segment in log.segments})
    return Verdict(path, None)
