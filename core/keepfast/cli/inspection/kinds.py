"""What a path is: something Keepfast reads, or else what its first bytes tell."""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path
from typing import Literal

from keepfast._system.disk.bounded import opened_zip
from keepfast._system.disk.special import special_kind
from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.errors import CorruptFile, InvalidValue, KeepfastError, MissingDependency, NotFound, did_you_mean
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.metrics.reading import has_metrics
from keepfast.plugins.discovery import registry
from keepfast.plugins.formats import format_of, format_of_content, is_checkpoint, read_checkpoint
from keepfast.runs.reading import find_runs, is_run

Kind = Literal["run", "runs", "checkpoints", "checkpoint", "memory", "metrics", "document"]

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x93NUMPY", "a single array of NumPy"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a file packed with gzip"),
    (b"\x28\xb5\x2f\xfd", "a file packed with Zstandard"),
    (b"BZh", "a file packed with bzip2"),
    (b"\xfd7zXZ\x00", "a file packed with xz"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"\x80", "a pickle"),
)
"""How files of other kinds begin."""

_HEAD = 4096
"""How many bytes of a file tell what it is."""

_MOST_NAMED = 20
"""How many neighbours are named in the place of what is not there."""


def kind_of(path: Path) -> Kind:
    """Return what a path is.

    Raises:
        NotFound: if it is not there; names what lies beside it.
        InvalidValue: if it is nothing that Keepfast reads; says what it is.
        MissingDependency: if it is of a format that needs a package that is not installed.
        CorruptFile: if it is damaged.
    """
    if not path.exists():
        raise NotFound(f"there is nothing at `{path}`{did_you_mean(path.name, _beside(path))}")
    if special := special_kind(path):
        raise InvalidValue(f"`{path}` is {special}, which cannot be inspected; give a file or a directory")
    if path.is_dir():
        return _kind_of_directory(path)
    if not path.stat().st_size:
        raise InvalidValue(f"`{path}` is an empty file; whatever was to be in it was never written")
    if has_metrics(path):
        return "metrics"
    if path.suffix == ".json" and _is_document(path):
        return "document"
    return _kind_of_file(path)


def _beside(path: Path) -> list[str]:
    try:
        return sorted(other.name for other in path.parent.iterdir())[:_MOST_NAMED]
    except OSError:
        return []


def _kind_of_directory(path: Path) -> Kind:
    if is_checkpoint(path):
        return "checkpoint"
    if _is_of(path, "memory format"):
        return "memory"
    if is_run(path):
        return "run"
    if CheckpointDirectory(path).checkpoints():
        return "checkpoints"
    try:
        find_runs(path)
    except NotFound:
        raise InvalidValue(
            f"`{path}` is a directory that holds neither runs nor checkpoints; give a run, a directory of runs, a "
            "checkpoint or a memory"
        ) from None
    return "runs"


def _is_of(path: Path, kind: Literal["memory format", "checkpoint format"]) -> bool:
    try:
        format_of(kind, path)
    except MissingDependency:
        raise
    except KeepfastError:
        return False
    return True


def _is_document(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (ValueError, RecursionError):
        return False


def _kind_of_file(path: Path) -> Kind:
    """Tell checkpoints from memories, which share extensions: a memory's file tells its size."""
    may_be_memory = _is_of(path, "memory format")
    try:
        checkpoint = read_any_checkpoint(path)
    except (CorruptFile, InvalidValue):
        if may_be_memory:
            return "memory"
        raise
    return "memory" if may_be_memory and "memory_size" in checkpoint.metadata else "checkpoint"


def read_any_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, also one whose name has another extension than its format, or none.

    Raises:
        InvalidValue: if it is nothing that Keepfast reads; says what it is.
        CorruptFile: if it is damaged.
    """
    if path.is_dir() or _is_of(path, "checkpoint format"):
        return read_checkpoint(path)
    if name := _format_by_content(path):
        made: Checkpoint = registry().get("checkpoint format", name)().load(path)
        return made
    raise InvalidValue(
        f"`{path}` is {what_is(path)}, which Keepfast does not read; it reads checkpoints "
        f"({_extensions('checkpoint format')}), memories ({_extensions('memory format')}), metrics (metrics.jsonl, "
        f"metrics.csv, events.out.tfevents.*), and the directories of runs and their {CHECKPOINTS}"
    )


def _extensions(kind: str) -> str:
    return ", ".join(sorted({made.extension for made in registry().make_ready(kind)}))


def _format_by_content(path: Path) -> str | None:
    """Return the name of the checkpoint format that a file begins like."""
    head = _head(path)
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        with contextlib.suppress(zipfile.BadZipFile), opened_zip(path) as archive:
            return "pt" if any(name.endswith("data.pkl") for name in archive.namelist()) else None
    told = format_of_content(head)
    return told if told in ("safetensors", "pickle") else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def what_is(path: Path) -> str:
    """Return what a file is, in words, as its first bytes tell."""
    head = _head(path)
    for start, name in _SIGNATURES:
        if head.startswith(start):
            return name
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # else the last character is cut
            return "a binary file of no known kind"
        text = head[: error.start].decode()
    if not text.isprintable() and any(ord(character) < 9 for character in text):
        return "a binary file of no known kind"
    return "a JSON document" if text.lstrip()[:1] in ("{", "[") else "a text"
