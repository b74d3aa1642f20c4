"""Opens a file by its content: what kind it is, and the tree in it."""

from __future__ import annotations

import functools
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from keepfast.errors import CorruptCheckpoint, KeepfastError
from keepfast.interfaces.checkpoint_store import Checkpoint, CheckpointStore
from keepfast.plugins.discovery import registry
from keepfast.plugins.formats import format_of_content

Kind = Literal["torch", "zip", "safetensors", "msgpack", "pickle", "other"]

_ZIP = b"PK\x03\x04"
_DAMAGES = (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError, zlib.error)
_KINDS: dict[str | None, Kind] = {
    "pt": "torch",
    "safetensors": "safetensors",
    "msgpack": "msgpack",
    "pickle": "pickle",
}
_FORMATS = {kind: name for name, kind in _KINDS.items() if name is not None}


def kind_of(path: Path) -> Kind:
    """Return what a file is, by its first bytes and, of an archive, by its members."""
    with path.open("rb") as file:
        beginning = file.read(16)
    if beginning[:4] == _ZIP:
        return "torch" if any(name.endswith("data.pkl") for name in members(path)) else "zip"
    return _KINDS.get(format_of_content(beginning), "other")


def members(path: Path) -> list[str]:
    """Return the names of an archive's members; none where it is no whole archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def opened(path: Path) -> Checkpoint:
    """Return what a file holds, read and verified by the format of its content; the last one is remembered.

    Raises:
        CorruptCheckpoint: if it is damaged, carries code, or is of no kind that is known.
        MissingDependency: if its format needs a package that is not installed; says what to run.
        OSError: if it cannot be opened.
    """
    status = path.stat()
    return _opened(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1)
def _opened(path: Path, _changed: int, _size: int) -> Checkpoint:
    kind = kind_of(path)
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
            reason = str(error).replace(f"`{inner}`", f"`{name}`")
            raise CorruptCheckpoint(f"`{path}`: {reason}") from error


def content(path: Path, name: str) -> bytes:
    """Return the bytes of a member of an archive, verified.

    Raises:
        CorruptCheckpoint: if the archive is damaged, or has no such member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except _DAMAGES as error:
        raise CorruptCheckpoint(f"`{path}` is damaged: its part `{name}` cannot be read ({error})") from error
