"""Memory files without a live memory: find, read, describe and verify them."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, final

from keepfast._system.arguments.checks import listed
from keepfast._system.arguments.guarding import guarded
from keepfast._system.background import wait_for_writing
from keepfast._system.disk.directories import size_of
from keepfast._system.warnings import warn
from keepfast.errors import InvalidValue, KeepfastError, MissingDependency, NotFound
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.plugins.formats import format_of, numeric_order
from keepfast.plugins.locations import located

_EXPORTED = re.compile(r"\d\d(-\d\d){2}_\d\d(-\d\d){2}-\d{6}_memory_(?P<token>[0-9a-f]+)-(?P<cycle>\d{1,18})\.")
"""The names of exported memories; see `MemoryExport`."""

Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much."""


def unseen(_done: int, _total: int) -> None:
    """Show no progress."""


@guarded
def read_memory(path: str | os.PathLike[str]) -> MemorySnapshot:
    """Read a memory file of any format, whichever framework wrote it; needs no framework.

    Raises:
        NotFound: if there is no such file.
        InvalidValue: if it is a directory, or its extension is that of no memory format.
        MissingDependency: if the format needs a package that is not installed.
        CorruptMemory: if it is damaged; names the file and the part.
    """
    file = located(path)
    wait_for_writing(file)
    if not file.exists():
        raise NotFound(f"there is no memory file `{file}`")
    return format_of("memory format", file).load(file)


Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A pattern as `glob.glob` takes it, a path, or several of them."""


def several(pattern: Patterns) -> list[str | os.PathLike[str]]:
    """Return the patterns that are given, of which there may be one by itself.

    Raises:
        InvalidValue: if it is neither one nor a list of them.
    """
    if isinstance(pattern, str | bytes | os.PathLike):
        return [pattern]
    return listed("pattern", pattern, "text, a path, or a list of these")


@guarded
def iter_memories(pattern: Patterns) -> Iterator[tuple[Path, MemorySnapshot]]:
    """Yield the path and content of each memory file that matches a pattern, one at a time, in the order of time.

    A file that cannot be read is passed over with a warning that names it.

    Args:
        pattern: as `glob.glob` takes it; ``**`` descends into directories. Or a path, or a list of both, which are gone
            through in its order.

    Raises:
        NotFound: if nothing matches.

    Example:
        >>> for path, memory in keepfast.iter_memories("memory/*.pt"):  # doctest: +SKIP
        ...     states = memory["states"]
    """
    patterns = several(pattern)
    for path in dict.fromkeys(chain.from_iterable(map(memory_paths, patterns))):
        try:
            snapshot = read_memory(path)
        except (KeepfastError, OSError) as error:
            warn(f"`{path}` cannot be read and is passed over: {error}")
            continue
        yield path, snapshot


def memory_paths(pattern: str | os.PathLike[str]) -> list[Path]:
    """Return the memories that match a pattern, in the order of time; other files are passed over.

    Cycles of one memory come by their number. Those of several come by the time that the files tell, since the local
    time in their names goes back at the end of daylight saving. Where there are other names, they are sorted with
    their numbers as numbers.

    Raises:
        NotFound: if nothing matches.
        InvalidValue: if nothing that matches is a memory.
        MissingDependency: if one is of a format that needs a package that is not installed.
    """
    paths, strangers = matches(pattern)
    for error in strangers.values():
        if not paths or isinstance(error, MissingDependency):
            raise error
    return _by_time(paths)


def _by_time(paths: list[Path]) -> list[Path]:
    """Return memories in the order of time where all have the names of exports, as they are where not."""
    names = [_EXPORTED.match(path.name) for path in paths]
    exported = {path: (name["token"], int(name["cycle"])) for path, name in zip(paths, names, strict=True) if name}
    if len(exported) < len(paths) or len(paths) < 2:
        return paths
    if len({token for token, _ in exported.values()}) == 1 and len(set(exported.values())) == len(paths):
        return sorted(paths, key=lambda path: exported[path][1])
    told = {path: _time_of(path) for path in paths}
    return sorted(paths, key=lambda path: (told[path], exported[path][1]))


def _time_of(path: Path) -> float:
    """Return when a memory was taken, in seconds since the epoch, as its file tells, or else the file system."""
    with contextlib.suppress(KeepfastError, OSError, KeyError, TypeError, ValueError):
        return datetime.fromisoformat(read_memory(path).metadata["time"]).timestamp()
    return path.stat().st_mtime


def matches(pattern: str | os.PathLike[str]) -> tuple[list[Path], dict[Path, InvalidValue | MissingDependency]]:
    """Return the memories that match a pattern, and the other files with what is wrong with each.

    Raises:
        NotFound: if nothing matches.
    """
    found = sorted(map(Path, _expanded(str(located(pattern)))), key=numeric_order)
    paths: list[Path] = []
    strangers: dict[Path, InvalidValue | MissingDependency] = {}
    directories: dict[Path, InvalidValue | MissingDependency] = {}
    for path in found:
        if _is_beside(path):
            continue
        try:
            format_of("memory format", path)
            paths.append(path)
        except (InvalidValue, MissingDependency) as error:
            (directories if path.is_dir() else strangers)[path] = error
    if len(directories) == len(found) == 1:
        return [], directories
    memories = set(paths)  # what lies in one of them, which for some formats is a directory, is part of it
    paths = [path for path in paths if memories.isdisjoint(path.parents)]
    strangers = {path: error for path, error in strangers.items() if memories.isdisjoint(path.parents)}
    if not paths and not strangers:
        raise NotFound(f"no memory file matches `{pattern}`")
    return paths, strangers


def _is_beside(path: Path) -> bool:
    """Say whether a file lies beside a memory, whose name it has with ``.json`` behind: it is part of that one."""
    if path.suffix != ".json" or not Path(path.stem).suffix or path.is_dir():
        return False
    try:
        return bool(format_of("memory format", path.with_suffix("")))
    except MissingDependency:
        return True
    except KeepfastError:
        return False


def _expanded(pattern: str) -> list[str]:
    """Return the paths that a pattern matches, or itself where it is a path."""
    wait_for_writing(Path(pattern))
    return [pattern] if Path(pattern).exists() else glob.glob(pattern, recursive=True)  # noqa: PTH207  (pathlib globs no absolute pattern)


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
    file = located(path)
    snapshot = read_memory(file)
    tensors = {name: (str(tensor.dtype), tuple(tensor.shape[2:])) for name, tensor in snapshot.tensors.items()}
    sizes = snapshot.memory_size, snapshot.num_envs, len(snapshot), snapshot.filled
    return MemoryDescription(file, size_of(file), *sizes, tensors, snapshot.metadata)


def verify_memories(
    pattern: str | os.PathLike[str], progress: Progress = unseen
) -> dict[Path, KeepfastError | OSError | None]:
    """Read every byte of all files that match a pattern.

    Returns:
        For each file, what is wrong with it, or None: an InvalidValue for a file of no memory format, a
        MissingDependency for one whose format needs a package that is not installed.

    Raises:
        NotFound: if nothing matches.
    """
    paths, strangers = matches(pattern)
    results: dict[Path, KeepfastError | OSError | None] = dict(strangers)
    for done, path in enumerate(paths):
        progress(done, len(paths))
        results[path] = _problem_of(path)
    progress(len(paths), len(paths))
    return results


def _problem_of(path: Path) -> KeepfastError | OSError | None:
    try:
        read_memory(path)
    except (KeepfastError, OSError) as error:
        return error
    return None
