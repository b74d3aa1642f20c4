"""What a file or a run holds, without anything to load it into: whole, by module, or a part of a module."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, final

from keepfast._system.arguments.guarding import guarded
from keepfast._system.background import wait_for_writing
from keepfast._system.warnings import warn
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.errors import NotFound, RemoteError
from keepfast.interfaces.checkpoint_store import SINGLE, Checkpoint, CheckpointMetadata
from keepfast.interfaces.loading.contents import contents_line, contents_page
from keepfast.plugins.formats import is_checkpoint
from keepfast.plugins.formats import read_checkpoint as read_file
from keepfast.plugins.locations import located
from keepfast.tree import Tree, items, nodes_of, versions_of, with_versions


@final
class CheckpointContent(dict[str, Tree]):
    """The modules of a checkpoint by name, each a tree of plain containers, its arrays NumPy arrays.

    Args:
        modules: the modules.
        path: the file, or one of the files.
        checkpoint: what they were read from.

    Attributes:
        path: the file, or one of the files.
        metadata: what stands beside the modules, as it is in the file; empty in a file of another tool.
        about: the same, checked and by its names; each is None where it is not told.
    """

    def __init__(self, modules: Mapping[str, Tree], path: Path, checkpoint: Checkpoint) -> None:
        super().__init__(modules)
        self.path, self.metadata = path, dict(checkpoint.metadata)
        self.about: CheckpointMetadata = checkpoint.about

    def __repr__(self) -> str:
        return f"CheckpointContent({str(self.path)!r}: {contents_line(self, self.metadata)})"

    def _repr_html_(self) -> str:
        return contents_page(self.path, self, self.metadata)


@guarded
def read_checkpoint(path: str | Path) -> CheckpointContent:
    """Read and verify a checkpoint, without a framework and without running code from it.

    Args:
        path: a file of any known format, of Keepfast or of another tool, or a run's directory, of which it is the
            best checkpoint, or else the latest.

    Returns:
        Each module's tree by its name, and what is told beside them. The only module of a file that has no name for
        it is called ``module``.

    Raises:
        NotFound: if there is no such file, or no checkpoint in the run that can be read.
        ConfigError: if the file's extension is of no known format.
        MissingDependency: if its format needs a package that is not installed; says what to run.
        CorruptCheckpoint: if the file is damaged.
        NewerFormat: if a later version of Keepfast wrote it in a later format.

    Example:
        ``keepfast.read_checkpoint("runs/cartpole")["policy"]["0.weight"].shape``
    """
    checkpoint, file = checkpoint_at(located(path, metrics=False))
    return CheckpointContent(modules_of(checkpoint), file, checkpoint)


def checkpoint_at(path: Path, wanted: Container[str] | None = None) -> tuple[Checkpoint, Path]:
    """Return the checkpoint of a path, and its file: of a run's directory the best, or else the latest, that is whole.

    Args:
        path: the file or the directory.
        wanted: the names of the modules that are asked for; see `keepfast.plugins.formats.read_checkpoint`.

    Raises:
        NotFound: if there is no such file, or nothing in the directory can be read; lists what is damaged.
        CorruptCheckpoint: if the file is damaged.
    """
    wait_for_writing(path / CHECKPOINTS)
    wait_for_writing(path)
    if not path.is_dir() or is_checkpoint(path):
        return read_file(path, wanted), path
    inner = path / CHECKPOINTS
    directory = CheckpointDirectory(inner if inner.is_dir() else path)
    skipped: list[str] = []
    for indexed in (*directory.newest_first(best=True), *directory.newest_first(best=False)):
        try:
            checkpoint = _with_modules(directory.read(indexed, wanted), directory.path / min(indexed.names))
        except RemoteError:
            raise  # an older one would be taken for the newest
        except OSError as error:  # damaged, vanished, not to be read, or of a later format
            skipped.append(str(error))
            continue
        if skipped:
            warn(f"skipped {'; '.join(skipped)}; reading {', '.join(sorted(indexed.names))}")
        return checkpoint, directory.path / min(indexed.names)
    damage = "".join(f"\n  {reason}" for reason in skipped)
    raise NotFound(f"there is no checkpoint to load in `{directory.path}`{damage}")


def _with_modules(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    if not checkpoint.modules and not checkpoint.about.written_by_keepfast:
        raise NotFound(f"`{path}` is no checkpoint: no module is in it. Its own path reads what it holds")
    return checkpoint


def modules_of(checkpoint: Checkpoint) -> dict[str, Tree]:
    """Return a checkpoint's modules by name; what another tool wrote is one, unless it is a dict of containers."""
    about, state = checkpoint.about, checkpoint.state
    if about.module is not None or about.modules is not None:
        return checkpoint.modules
    several = isinstance(state, Mapping) and state and all(items(part) is not None for part in state.values())
    return {str(key): part for key, part in state.items()} if several else {SINGLE: state}


def part_of(tree: Tree, path: str) -> Tree | None:
    """Return what a tree has at a path and below it, or None where it has nothing there.

    Entries whose own keys are paths, as those of PyTorch's states are, make up a dict without the path's part of them.
    """
    if (whole := dict(nodes_of(tree)).get(path)) is not None:
        return whole
    found: dict[Any, Tree] = {}
    versions: dict[str, Any] | None = None
    for at, node in nodes_of(tree):
        rest = path.removeprefix(f"{at}.") if at else path
        if isinstance(node, Mapping) and (not at or rest != path):
            below = {key: child for key, child in node.items() if str(key).startswith(f"{rest}.")}
            found |= {str(key).removeprefix(f"{rest}."): child for key, child in below.items()}
            if below and (told := versions_of(node)) is not None:
                versions = {} if versions is None else versions
                inner = {f"{name}.": each for name, each in told.items() if f"{name}.".startswith(f"{rest}.")}
                versions |= {name.removeprefix(f"{rest}.").removesuffix("."): each for name, each in inner.items()}
    return with_versions(OrderedDict(found), versions) if found and versions is not None else found or None
