"""Memory files into other memory files: of another format, or many into one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from keepfast._system.arguments.checks import function
from keepfast._system.arguments.guarding import guarded
from keepfast._system.memory.spacious import spacious_tensors
from keepfast.errors import InvalidValue, LoadMismatch
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.interfaces.ring import VALID
from keepfast.memories.files import Progress, memory_paths, read_memory, unseen
from keepfast.plugins.formats import format_of
from keepfast.plugins.locations import writable


@guarded
def convert_memory(
    source: str | os.PathLike[str], target: str | os.PathLike[str], progress: Progress = unseen
) -> MemorySnapshot:
    """Write the content of a memory file into another, of the format that its name ends with.

    Args:
        source: a memory file.
        target: the file to write; one of that name is replaced.
        progress: called with the steps done and their number.

    Returns:
        The content, memory-mapped where the source's format allows.

    Raises:
        NotFound: if there is no source.
        InvalidValue: if an extension is that of no memory format.
        CorruptMemory: if the source is damaged.
        WriteFailed: if the operating system refused; what was at the target before is untouched.
    """
    target = writable(target)
    writer = format_of("memory format", target)
    function("progress", progress)(0, 2)
    snapshot = read_memory(source)
    progress(1, 2)
    writer.save(snapshot, target)
    progress(2, 2)
    return snapshot


@guarded
def merge_memories(
    pattern: str | os.PathLike[str], target: str | os.PathLike[str], progress: Progress = unseen
) -> MemorySnapshot:
    """Write the samples of all files that match a pattern into one file, oldest first.

    Only complete rows are taken: one that some of its environments have not written yet is left out. Sequences that are
    sampled of the result do not go from one file to the next.

    Args:
        pattern: as `glob.glob` takes it; the order is that of `iter_memories`.
        target: the file to write; one of that name is replaced.
        progress: called with the files done and their number.

    Returns:
        The merged memory, which is full.

    Raises:
        NotFound: if nothing matches.
        InvalidValue: if nothing that matches is a memory, or the target is itself one of them.
        LoadMismatch: if the files hold different tensors or numbers of environments; names the first such file.
        CorruptMemory: if a file is damaged.
        WriteFailed: if the operating system refused; what was at the target before is untouched.
    """
    function("progress", progress)
    target = writable(target)
    writer = format_of("memory format", target)
    paths = memory_paths(pattern)
    if target.resolve() in (path.resolve() for path in paths):
        raise InvalidValue(f"`{target}` is itself one of the files that match `{pattern}`; write to another place")
    rows, layout, metadata = _merged_layout(paths)
    tensors = spacious_tensors({name: ((rows, *shape), dtype) for name, (shape, dtype) in layout.items()})
    row, seams = 0, list[int]()
    for done, path in enumerate(paths):
        progress(done, len(paths))
        snapshot, first = read_memory(path), row
        row = _copied(snapshot, tensors, first)
        seams += _seams(snapshot, first, row)
    merged = MemorySnapshot(tensors, 0, 0, filled=True, metadata={**metadata, "seams": seams[: -snapshot.num_envs]})
    writer.save(merged, target)
    progress(len(paths), len(paths))
    return merged


def _copied(snapshot: MemorySnapshot, tensors: Mapping[str, NDArray[Any]], row: int) -> int:
    """Copy a file's complete rows into tensors from a row on, oldest first; return the row behind the last."""
    for block in snapshot.chronological_blocks():
        end = row + len(next(iter(block.values())))
        for name, tensor in tensors.items():
            tensor[row:end] = block.get(name, True)  # all are valid where none was marked
        row = end
    return row


def _seams(snapshot: MemorySnapshot, first: int, end: int) -> list[int]:
    """Return the places, in a merged memory, of a file's samples that the next one does not follow; the last are some.

    Args:
        snapshot: the file.
        first: the row in the merged memory of its oldest row.
        end: the row behind its newest.
    """
    own = {(first + sample, environment) for sample, environment in snapshot.chronological_seams()}
    last = {(end - 1, environment) for environment in range(snapshot.num_envs)}
    return sorted(row * snapshot.num_envs + environment for row, environment in own | last if first <= row < end)


def _merged_layout(paths: list[Path]) -> tuple[int, dict[str, tuple[tuple[int, ...], Any]], Mapping[str, Any]]:
    """Return the number of rows of all files, the shape of a row and dtype of each tensor, and the last metadata."""
    rows, layout = 0, None
    marked: dict[str, tuple[tuple[int, ...], Any]] = {}
    for path in paths:
        snapshot = read_memory(path)
        found = {name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in snapshot.tensors.items()}
        if snapshot.is_marked:
            marked[VALID] = found.pop(VALID)
        if layout is not None and found != layout:
            raise LoadMismatch(
                f"`{path}` holds {found}, and the files before it {layout}; only like ones can be merged"
            )
        layout = found
        rows += snapshot.ring.complete_rows
    assert layout is not None  # noqa: S101  (there is at least one path)
    return rows, {**layout, **marked}, snapshot.metadata
