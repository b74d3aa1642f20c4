"""Finds the format of a checkpoint or a memory."""

from __future__ import annotations

import glob
import re
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from keepfast._system.background import wait_for_writing
from keepfast._system.disk.bounded import within_memory
from keepfast._system.disk.special import is_plain_file
from keepfast._version import __version__
from keepfast.errors import (
    ConfigError,
    CorruptCheckpoint,
    InvalidValue,
    KeepfastError,
    MissingDependency,
    NewerFormat,
    NotFound,
    did_you_mean,
)
from keepfast.interfaces.checkpoint_store import FORMAT_VERSION, Checkpoint, CheckpointStore
from keepfast.interfaces.loading.memory_log import MemoryLog, Segment, path_of_segment, segments_of
from keepfast.interfaces.memory_exporter import MemoryExporter
from keepfast.plugins.discovery import registry
from keepfast.plugins.locations import located

Kind = Literal["checkpoint format", "memory format"]
"""The kinds of formats, as plugins provide them; see `HOOKS`."""


@overload
def format_of(kind: Literal["checkpoint format"], path: Path) -> CheckpointStore: ...


@overload
def format_of(kind: Literal["memory format"], path: Path) -> MemoryExporter: ...


def format_of(kind: Kind, path: Path) -> CheckpointStore | MemoryExporter:
    """Return the format that a file or directory is of, or is to be written in, by its name.

    Args:
        kind: what it is to hold.
        path: where it is, or will be.

    Raises:
        MissingDependency: if the format of that name needs a package that is not installed; says what to run.
        ConfigError: if no checkpoint format has such an extension.
        InvalidValue: if no memory format has, or a directory is no memory. Each tells which formats could not be asked.
        NotFound: if a directory is no checkpoint.
    """
    suffix = path.suffix.removeprefix(".")
    known: list[str] = []
    silent: dict[str, str] = {}
    absent: MissingDependency | None = None
    # The one whose name it is comes first: most files then need no other format, nor the packages of others.
    for provided in sorted(registry().provided(kind), key=lambda provided: provided.name != suffix):
        try:
            made: CheckpointStore | MemoryExporter = provided.factory()
        except MissingDependency as error:
            absent = error if provided.name == suffix else absent
            silent[provided.name] = f": {error}"
        except Exception as error:  # noqa: BLE001  (a broken format hurts nobody who did not ask for it)
            silent[provided.name] = f" is broken: {type(error).__name__}: {error}"
        else:
            if made.owns(path):
                return made
            known.append(made.extension)
    raise absent or _unknown(kind, path, known, silent)


def _unknown(kind: Kind, path: Path, known: list[str], silent: dict[str, str]) -> KeepfastError:
    hints = "".join(f"\n`{name}`{reason}" for name, reason in silent.items())
    if path.is_dir() and kind == "memory format":
        way = f"give one memory file, or `iter_memories('{path}/*')` for all"
        return InvalidValue(f"`{path}` is a directory; {way}{hints}")
    if path.is_dir():
        return NotFound(f"`{path}` is a directory, not a checkpoint; give one of the files in it{hints}")
    error = InvalidValue if kind == "memory format" else ConfigError
    return error(f"`{path}` has the extension of no {kind}{did_you_mean(path.suffix, known)}{hints}")


def stores() -> dict[str, CheckpointStore]:
    """Return every checkpoint format that is ready to use, by extension."""
    made: list[CheckpointStore] = registry().make_ready("checkpoint format")
    return {store.extension: store for store in made}


def owner_of(path: Path, among: Mapping[str, CheckpointStore] | None = None) -> CheckpointStore | None:
    """Return the checkpoint format that a file or directory is of, or None where none that is ready knows it.

    Args:
        path: the file or directory.
        among: what `stores` returned, which takes longer than asking them, where many are asked for.
    """
    return next((store for store in (stores() if among is None else among).values() if store.owns(path)), None)


def is_checkpoint(path: Path) -> bool:
    """Say whether a path is one checkpoint, a file or a directory of such a format, rather than a directory of many.

    Raises:
        MissingDependency: if it is a directory, and the format of its name needs a package that is not installed.
    """
    if not path.is_dir():
        return path.exists()
    try:
        return bool(format_of("checkpoint format", path))
    except NotFound:
        return False


def read_checkpoint(path: str | Path, wanted: Container[str] | None = None) -> Checkpoint:
    """Read and verify a checkpoint of any known format, with the rows of its memories, wherever they lie.

    Args:
        path: the file, or the directory that a format has in its place.
        wanted: the names of the modules that are asked for; all if None. A memory that is not stays without its rows,
            where they lie in segments, which need not be there then.

    Raises:
        NotFound: if there is no such file.
        ConfigError: if neither its content nor its extension is of a known format.
        MissingDependency: if its format needs a package that is not installed; says what to run.
        CorruptCheckpoint: if it is damaged, or its metadata is not what Keepfast writes.
        NewerFormat: if a later version of Keepfast wrote it in a later format.
    """
    path = located(path)
    wait_for_writing(path)
    if not path.exists():
        raise NotFound(f"cannot load `{path}`: it is not there{_beside(path)}")
    checkpoint = _format_to_read(path).load(path)
    _check_version(checkpoint, path)
    try:
        _ = checkpoint.about
    except InvalidValue as error:
        raise CorruptCheckpoint(f"`{path}` is damaged: its metadata makes no sense: {error}") from error
    return _with_rows(checkpoint, path, wanted) if checkpoint.about.logs else checkpoint


def _with_rows(checkpoint: Checkpoint, path: Path, wanted: Container[str] | None) -> Checkpoint:
    """Return a checkpoint as one file would hold it, with the rows of those memories that are wanted."""
    told = checkpoint.about.logs or {}
    modules = checkpoint.modules
    left = {name: log for name, log in told.items() if name in modules and not (wanted is None or name in wanted)}
    for name in (name for name in told if name in modules and name not in left):
        if not isinstance(state := modules[name], Mapping):
            raise CorruptCheckpoint(f"`{path}` is damaged: the memory `{name}` is no mapping")
        modules[name] = {"tensors": _rows_of(name, told[name], path), **state}
    metadata = {key: value for key, value in checkpoint.metadata.items() if key != "logs"}
    alone = checkpoint.about.module
    state = modules if alone is None else modules[alone]
    read = segments_of({name: log for name, log in told.items() if name in modules and name not in left})
    return replace(checkpoint, state=state, metadata={**metadata, "logs": left} if left else metadata, segments=read)


def _rows_of(name: str, told: Any, path: Path) -> dict[str, Any]:
    """Return the tensors of a memory, of the segments that a checkpoint names."""

    def read(segment: Segment) -> Mapping[str, Any]:
        file = path_of_segment(path.parent, segment.file)
        if not file.exists():
            raise CorruptCheckpoint(
                f"`{file}` is missing, which `{path.name}` needs for the memory `{name}`: where checkpoints are moved, "
                f"the folder `{file.parent.name}` goes with them. Without it the other modules can be loaded by name"
            )
        rows = _format_to_read(file).load(file).state
        return rows if isinstance(rows, Mapping) else {}

    try:
        with within_memory(path):
            return MemoryLog.of(told).assembled(read)
    except (InvalidValue, ValueError, TypeError) as error:
        raise CorruptCheckpoint(f"`{path}` is damaged: the memory `{name}` cannot be put together: {error}") from error


_BUILTIN = {".pt", ".safetensors", ".msgpack", ".pickle"}
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""How files of PyTorch before 1.6 begin."""


def _format_to_read(path: Path) -> CheckpointStore:
    """Return the format of a file that is there: that of its content, where its name is of no other's format.

    Raises:
        ConfigError: if neither tells.
        MissingDependency: if it needs a package that is not installed.
    """
    kind = _kind_of(path) if is_plain_file(path) and (path.suffix in _BUILTIN or owner_of(path) is None) else None
    if kind is None or f".{kind}" == path.suffix:
        return format_of("checkpoint format", path)
    made: CheckpointStore = registry().get("checkpoint format", kind)()
    return made


def _kind_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return format_of_content(file.read(16))
    except OSError:
        return None


def format_of_content(first: bytes) -> str | None:
    """Return the name of the built-in checkpoint format that a file's first 16 bytes tell, or None."""
    if first[4:9] == b"\0\0\0\0{":  # behind the length of a header; in no pickle or map stand such bytes there
        return "safetensors"
    if first[:4] == b"PK\x03\x04" or first[: len(_LEGACY)] == _LEGACY:
        return "pt"
    if first[:1] == b"\x80" and first[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pickle"
    return "msgpack" if first[:1] in (b"\xde", b"\xdf") or (first and 0x81 <= first[0] <= 0x8F) else None


def _check_version(checkpoint: Checkpoint, path: Path) -> None:
    told = checkpoint.metadata if isinstance(checkpoint.metadata, Mapping) else {}
    version = told.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerFormat(
            f"`{path}` has the `format_version` {version}, and this Keepfast, {__version__}, reads up to "
            f"{FORMAT_VERSION}; Keepfast {told.get('keepfast')!s:.40} wrote it and reads it, as later ones do: "
            "`pip install -U keepfast`"
        )


def _beside(path: Path) -> str:
    """Return what lies beside a path under the same name in other formats, as the end of an error."""
    try:
        found = sorted(each for each in path.parent.glob(f"{glob.escape(path.stem)}.*") if owner_of(each) is not None)
    except (OSError, ValueError):
        return ""
    return f"; beside it lies {', '.join(f'`{each.name}`' for each in found)}, which you can load" if found else ""


def exporter_named(format: str) -> MemoryExporter:  # noqa: A002  (the design's name)
    """Return the exporter of a memory format.

    Raises:
        UnknownPlugin: if nobody provides it; lists the known ones and the nearest.
        MissingDependency: if it needs a package that is not installed.
    """
    made: MemoryExporter = registry().get("memory format", format)()
    return made


def numeric_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in names as numbers: 2 before 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
