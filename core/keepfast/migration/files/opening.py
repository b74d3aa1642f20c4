"""Opens a file by its content: what kind it is, and the tree in it."""

from __future__ import annotations

import functools
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from keepfast._system.disk.bounded import opened_zip
from keepfast._system.disk.special import special_kind
from keepfast.errors import CorruptCheckpoint, KeepfastError, shown
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.plugins.discovery import registry
from keepfast.plugins.formats import format_of, format_of_content

Kind = Literal["torch", "zip", "safetensors", "msgpack", "pickle", "directory", "other"]

_ZIP = b"PK\x03\x04"
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, ArithmeticError),
    *(NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError),
)
"""What `zipfile` raises for bytes that are no archive."""

_INFLATED, _TIMES, _CHUNK = 1 << 26, 4, 1 << 20
"""How many bytes a member may have: so many, and so many times what the file has; and how many are read at once."""

_KINDS: dict[str | None, Kind] = {
    "pt": "torch",
    "safetensors": "safetensors",
    "msgpack": "msgpack",
    "pickle": "pickle",
}
_FORMATS = {kind: name for name, kind in _KINDS.items() if name is not None}


def kind_of(path: Path) -> Kind:
    """Return what a file is, by its first bytes and, of an archive, by its members; or that it is a directory.

    What is no file is of no kind: a pipe beside an archive is not waited for.
    """
    if path.is_dir():
        return "directory"
    if special_kind(path):
        return "other"
    with path.open("rb") as file:
        beginning = file.read(16)
    if beginning[:4] == _ZIP:
        return "torch" if any(name.endswith("data.pkl") for name in members(path)) else "zip"
    return _KINDS.get(format_of_content(beginning), "other")


def members(path: Path) -> list[str]:
    """Return the names of an archive's members; none where it is no whole archive."""
    try:
        with opened_zip(path) as archive:
            return archive.namelist()
    except (*_DAMAGES, OSError):
        return []


def opened(path: Path) -> Checkpoint:
    """Return what a file holds, read and verified by the format of its content; the last one is remembered.

    Raises:
        CorruptCheckpoint: if it is damaged, carries code, or is of no kind that is known.
        MissingDependency: if its format needs a package that is not installed; says what to run.
        OSError: if it cannot be opened.
    """
    status = path.stat()
    found = _opened(path, status.st_mtime_ns, status.st_size)
    if isinstance(found, KeepfastError):
        raise found.with_traceback(None)
    return found


@functools.lru_cache(maxsize=1)
def _opened(path: Path, _changed: int, _size: int) -> Checkpoint | KeepfastError:
    """Return what a file holds, or why it cannot be read: every reader of another library asks, of the same file."""
    try:
        return _read(path)
    except KeepfastError as error:
        return error


def _read(path: Path) -> Checkpoint:
    kind = kind_of(path)
    if kind == "directory":
        return format_of("checkpoint format", path).load(path)
    if kind not in _FORMATS:
        raise CorruptCheckpoint(f"`{path}` is no checkpoint: it is neither an archive nor a map of arrays")
    store: CheckpointStore = registry().get("checkpoint format", _FORMATS[kind])()
    return store.load(path)


def forget() -> None:
    """Let go of the file that is remembered."""
    _opened.cache_clear()


def state_of(path: Path) -> dict[str, object]:
    """Return the mapping that a file holds, or an empty one where it holds something else or cannot be read."""
    try:
        state = opened(path).state
    except (KeepfastError, OSError):
        return {}
    return state if isinstance(state, dict) else {}


def member(path: Path, name: str) -> Checkpoint:
    """Return what a file of PyTorch holds that is a member of an archive.

    Raises:
        CorruptCheckpoint: if the archive or the member is damaged, or the member carries code.
    """
    with tempfile.TemporaryDirectory(prefix="keepfast") as directory:
        inner = Path(directory) / Path(name).name
        inner.write_bytes(content(path, name))
        store: CheckpointStore = registry().get("checkpoint format", "pt")()
        try:
            return store.load(inner)
        except CorruptCheckpoint as error:
            reason = str(error).replace(f"`{inner}`", f"`{shown(name)}`")
            raise CorruptCheckpoint(f"`{path}`: {reason}") from error


def content(path: Path, name: str) -> bytes:
    """Return the bytes of a member of an archive, verified.

    Raises:
        CorruptCheckpoint: if the archive is damaged, or has no such member.
    """
    try:
        with opened_zip(path) as archive:
            return _inflated(archive, archive.getinfo(name), path.stat().st_size)
    except _DAMAGES as error:
        part, reason = shown(name), shown(error)
        raise CorruptCheckpoint(f"`{path}` is damaged: its part `{part}` cannot be read ({reason})") from error


def _inflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> bytes:
    """Return the bytes of a member, once it is known that they are no more than a file of that size may have.

    Raises:
        ValueError: if they are, or it is compressed in a way that cannot be stopped on the way.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"it is compressed in a way of its own, {info.compress_type}")
    if info.file_size > _INFLATED + _TIMES * size:
        raise ValueError(f"it would take {info.file_size:,} bytes, which a file of {size:,} may not")
    with archive.open(info) as file:
        return b"".join(iter(lambda: file.read(_CHUNK), b""))
