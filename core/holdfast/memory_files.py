"""Memory files without a live memory: read one, read many, and turn them into others."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from holdfast._spacious import spacious_zeros
from holdfast.errors import HoldfastError, InvalidValue, LoadMismatch, MissingDependency, NotFound, did_you_mean
from holdfast.memory import MemoryExporter, MemorySnapshot
from holdfast.plugins import registry

Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much."""


def _unseen(_done: int, _total: int) -> None:
    pass


def exporter_of(path: Path) -> MemoryExporter:
    """Return the exporter of the format that a file's name ends with.

    Raises:
        InvalidValue: if no memory format has such an extension; names the formats that need a package first.
    """
    known: dict[str, MemoryExporter] = {}
    missing: list[str] = []
    for provided in registry().provided("memory format"):
        try:
            made: MemoryExporter = provided.factory()
        except MissingDependency as error:
            missing.append(f"`{provided.name}`: {error}")
            continue
        if made.owns(path):
            return made
        known[made.extension] = made
    if path.is_dir():
        raise InvalidValue(f"`{path}` is a directory; give one memory file, or `iter_memories('{path}/*')` for all")
    hint = "".join(f"\n{line}" for line in missing)
    raise InvalidValue(f"`{path}` has the extension of no memory format{did_you_mean(path.suffix, known)}{hint}")


def read_memory(path: str | os.PathLike[str]) -> MemorySnapshot:
    """Read a memory file of any format, whichever framework wrote it; needs no framework.

    Raises:
        NotFound: if there is no such file.
        InvalidValue: if it is a directory, or its extension is that of no memory format.
        CorruptMemory: if it is damaged; names the file and the part.
    """
    file = Path(path)
    if not file.exists():
        raise NotFound(f"there is no memory file `{file}`")
    return exporter_of(file).load(file)


def iter_memories(pattern: str | os.PathLike[str]) -> Iterator[tuple[Path, MemorySnapshot]]:
    """Yield the path and content of each memory file that matches a pattern, one at a time, in the order of time.

    Args:
        pattern: as `glob.glob` takes it; ``**`` descends into directories.

    Raises:
        NotFound: if nothing matches.
    """
    for path in memory_paths(pattern):
        yield path, read_memory(path)


def memory_paths(pattern: str | os.PathLike[str]) -> list[Path]:
    """Return the files that match a pattern, numbers in their names sorted as numbers.

    Raises:
        NotFound: if nothing matches.
    """
    found = glob.glob(os.fspath(pattern), recursive=True)  # noqa: PTH207  (pathlib globs no absolute pattern)
    paths = sorted((Path(path) for path in found if _may_be_memory(Path(path))), key=numeric_order)
    if not paths:
        raise NotFound(f"no memory file matches `{pattern}`")
    return paths


def _may_be_memory(path: Path) -> bool:
    """Say whether a path is a file, or a directory that is one of a format's memories."""
    if path.is_file():
        return True
    try:
        return exporter_of(path) is not None
    except InvalidValue:
        return False


def numeric_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in names as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def convert_memory(
    source: str | os.PathLike[str], target: str | os.PathLike[str], progress: Progress = _unseen
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
    writer = exporter_of(Path(target))
    progress(0, 2)
    snapshot = read_memory(source)
    progress(1, 2)
    writer.save(snapshot, Path(target))
    progress(2, 2)
    return snapshot


def merge_memories(
    pattern: str | os.PathLike[str], target: str | os.PathLike[str], progress: Progress = _unseen
) -> MemorySnapshot:
    """Write the samples of all files that match a pattern into one file, oldest first.

    Only complete rows are taken: one that some of its environments have not written yet is left out.

    Args:
        pattern: as `glob.glob` takes it; the order is that of `iter_memories`.
        target: the file to write; one of that name is replaced.
        progress: called with the files done and their number.

    Returns:
        The merged memory, which is full.

    Raises:
        NotFound: if nothing matches.
        LoadMismatch: if the files hold different tensors or numbers of environments; names the first such file.
        CorruptMemory: if a file is damaged.
        WriteFailed: if the operating system refused; what was at the target before is untouched.
    """
    writer = exporter_of(Path(target))
    paths = memory_paths(pattern)
    rows, layout, metadata = _merged_layout(paths)
    tensors = {name: spacious_zeros((rows, *shape), dtype) for name, (shape, dtype) in layout.items()}
    row = 0
    for done, path in enumerate(paths):
        progress(done, len(paths))
        for name, tensor in read_memory(path).chronological().items():
            tensors[name][row : row + len(tensor)] = tensor
            count = len(tensor)
        row += count
    merged = MemorySnapshot(tensors, 0, 0, filled=True, metadata=metadata)
    writer.save(merged, Path(target))
    progress(len(paths), len(paths))
    return merged


def _merged_layout(paths: list[Path]) -> tuple[int, dict[str, tuple[tuple[int, ...], Any]], Mapping[str, Any]]:
    """Return the number of rows of all files, the shape of a row and dtype of each tensor, and the last metadata."""
    rows, layout = 0, None
    for path in paths:
        snapshot = read_memory(path)
        found = {name: (tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in snapshot.tensors.items()}
        if layout is not None and found != layout:
            raise LoadMismatch(
                f"`{path}` holds {found}, and the files before it {layout}; only like ones can be merged"
            )
        layout = found
        rows += snapshot.memory_size if snapshot.filled else snapshot.memory_index
    assert layout is not None  # noqa: S101  (there is at least one path)
    return rows, layout, snapshot.metadata


@final
@dataclass(frozen=True)
class MemoryDescription:
    """What `inspect_memory` tells of a file.

    Attributes:
        path: the file.
        nbytes: its size.
        memory_size: how many rows the memory has.
        num_envs: how many environments.
        samples: how many samples it holds, counted over all environments.
        filled: whether every row was written.
        tensors: the dtype and the shape of one sample of each tensor.
        metadata: what else the file tells.
    """

    path: Path
    nbytes: int
    memory_size: int
    num_envs: int
    samples: int
    filled: bool
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    metadata: Mapping[str, Any]


def inspect_memory(path: str | os.PathLike[str]) -> MemoryDescription:
    """Describe a memory file; raises as `read_memory` does."""
    snapshot = read_memory(path)
    tensors = {name: (str(tensor.dtype), tuple(tensor.shape[2:])) for name, tensor in snapshot.tensors.items()}
    sizes = snapshot.memory_size, snapshot.num_envs, len(snapshot), snapshot.filled
    return MemoryDescription(Path(path), Path(path).stat().st_size, *sizes, tensors, snapshot.metadata)


def verify_memories(pattern: str | os.PathLike[str], progress: Progress = _unseen) -> dict[Path, HoldfastError | None]:
    """Read every byte of all files that match a pattern.

    Returns:
        For each file, what is wrong with it, or None.

    Raises:
        NotFound: if nothing matches.
    """
    results: dict[Path, HoldfastError | None] = {}
    paths = memory_paths(pattern)
    for done, path in enumerate(paths):
        progress(done, len(paths))
        try:
            read_memory(path)
            results[path] = None
        except HoldfastError as error:
            results[path] = error
    progress(len(paths), len(paths))
    return results
