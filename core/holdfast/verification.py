"""Checks files against what they and their index say of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from holdfast._digest import file_digest
from holdfast.checkpoint_directory import CheckpointDirectory
from holdfast.checkpoint_formats import read_checkpoint
from holdfast.checkpoint_index import IndexedFile
from holdfast.errors import HoldfastError, NotFound
from holdfast.run_directory import CHECKPOINTS


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
        path: a checkpoint file, a checkpoint directory, or a run's directory.

    Yields:
        A verdict for each file, as soon as it is there.

    Raises:
        NotFound: if there is nothing to verify.
    """
    path = Path(path)
    if path.is_file():
        yield _verify_file(path, _indexed(path))
        return
    directory = CheckpointDirectory(path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path)
    files = [file for checkpoint in directory.checkpoints() for file in checkpoint.files.values()]
    if not files:
        raise NotFound(f"there is no checkpoint to verify at `{path}`")
    for file in files:
        yield _verify_file(directory.path / file.name, file)


def _indexed(path: Path) -> IndexedFile | None:
    checkpoints = CheckpointDirectory(path.parent).checkpoints()
    files = (file for checkpoint in checkpoints for file in checkpoint.files.values())
    return next((file for file in files if file.name == path.name), None)


def _verify_file(path: Path, indexed: IndexedFile | None) -> Verdict:
    try:
        read_checkpoint(path)
    except (HoldfastError, OSError) as error:
        return Verdict(path, str(error))
    if indexed is not None and indexed.digest and file_digest(path) != indexed.digest:
        return Verdict(path, f"`{path}` is whole, but not the file that the index lists under this name")
    return Verdict(path, None)
