"""Says what a checkpoint holds, without building an agent and without any framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from keepfast._system.disk.directories import size_of
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointMetadata
from keepfast.interfaces.loading.memory_log import path_of_segment
from keepfast.plugins.formats import read_checkpoint
from keepfast.plugins.locations import located
from keepfast.tree import Tree, flatten, is_array, nbytes
from keepfast.tree import describe as describe_leaf


@final
@dataclass(frozen=True)
class InspectedEntry:
    """One entry of a module: its path, what it is in a few words, and its bytes (0 for what is no array)."""

    path: str
    what: str
    bytes: int


@final
@dataclass(frozen=True)
class Inspection:
    """What a checkpoint file holds.

    Attributes:
        path: the file.
        size: its bytes on disk.
        metadata: what the file tells beside the modules, except for what a resume alone needs.
        resumable: whether it holds what an exact resume needs beyond the modules.
        modules: the entries of each module, by the module's name.
        segments: the bytes of each file that rows of its memories lie in, by its name from the file's directory on.
    """

    path: Path
    size: int
    metadata: CheckpointMetadata
    resumable: bool
    modules: Mapping[str, list[InspectedEntry]]
    segments: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Return the bytes of all arrays."""
        return sum(entry.bytes for entries in self.modules.values() for entry in entries)


def inspect(path: str | Path) -> Inspection:
    """Read and verify a checkpoint of any known format, and say what it holds.

    Args:
        path: the file.

    Raises:
        NotFound: if there is no such file.
        ConfigError: if its extension is of no known format.
        MissingDependency: if its format needs a package that is not installed; says what to run.
        CorruptCheckpoint: if it is damaged.
    """
    path = located(path)
    return describe(path, read_checkpoint(path))


def describe(path: Path, checkpoint: Checkpoint) -> Inspection:
    """Say what a checkpoint holds that was read from a file."""
    about = checkpoint.about
    modules = {name: _entries(tree) for name, tree in _modules(checkpoint, path).items()}
    sizes = {file: size_of(path_of_segment(path.parent, file)) for file in checkpoint.segments}
    return Inspection(path, size_of(path), replace(about, resume=None), about.resume is not None, modules, sizes)


def _modules(checkpoint: Checkpoint, path: Path) -> dict[str, Tree]:
    """Return the modules; another tool's file that is no mapping of modules counts as one, named by the file."""
    state = checkpoint.state
    several = isinstance(state, Mapping) and all(isinstance(value, Mapping) for value in state.values())
    if checkpoint.about.written_by_keepfast or several:
        return checkpoint.modules
    return {path.stem: state}


def _entries(tree: Tree) -> list[InspectedEntry]:
    return [
        InspectedEntry(name, describe_leaf(leaf), nbytes(leaf) if is_array(leaf) else 0)
        for name, leaf in flatten(tree).items()
    ]
