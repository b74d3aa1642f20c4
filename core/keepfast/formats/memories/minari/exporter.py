"""Memories as Minari datasets: a directory that ``minari.MinariDataset(path)`` opens.

``main_data.hdf5`` holds the episodes as Minari has them and, behind the end that HDF5 itself knows of, what is known
beside them: the samples that are no transitions, the document of `keepfast.formats.memories.header`, its length and the
CRC-32 of everything before it. The document has the CRC-32 of ``metadata.json``, which is for Minari alone, and a table
of the episodes, of which their attributes told in an older layout. HDF5 cuts off what is behind its end when another
tool changes the file, which is that tool's then.

Where Minari has a place for a tensor, it is there: ``states`` (or ``observations``) with the observation after the last
step, ``actions``, ``rewards``, ``terminated`` and ``truncated``; all others are among the infos. Values of bfloat16 and
float8 are stored as equal ones of float32. What Minari itself wrote as Arrow or Parquet is read, too.
"""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

import h5py

from keepfast._system.commit import commit_directory
from keepfast._system.disk.checksum import crc32
from keepfast._system.disk.special import is_plain_file
from keepfast.errors import CorruptMemory, MissingDependency, NotFound, Unreadable, shown
from keepfast.formats.files.sealed import Damage, verified
from keepfast.formats.memories.header import check_header, header_from, header_text, snapshot_from
from keepfast.formats.memories.minari.metadata import is_changed_by_others, metadata_of
from keepfast.formats.memories.minari.reading import damage_of_hdf5, foreign_tensors, own_tensors
from keepfast.formats.memories.minari.spaces import observations_of
from keepfast.formats.memories.minari.writing import write_episodes, write_rest
from keepfast.interfaces.format import DirectoryFormat
from keepfast.interfaces.memory_exporter import MemoryExporter, MemorySnapshot

_DATA, _METADATA = "main_data.hdf5", "metadata.json"
_TRAILER = struct.Struct("<16sQI")
_MARK = b"keepfast memory\n"
_METADATA_CRC, _EPISODES = "minari_metadata_crc32", "episodes"
_LARGEST_METADATA = 1 << 24
_SUPERBLOCK = 96
_OTHERS = ("arrow", "parquet")
"""How else than as HDF5 Minari has datasets."""

_ENDS = {0: 40, 1: 44, 2: 28, 3: 28}
"""By the version of a superblock of HDF5: where it says where the file ends."""


@final
class MinariExporter(DirectoryFormat[MemorySnapshot], MemoryExporter):
    """Writes a directory with the episodes of each environment; needs the tensors states, actions and rewards.

    An episode that the memory does not hold to its end is marked as truncated there. An end that only the tensor
    ``dones`` tells of is a truncation where the memory has ``terminated``, which denies it, and a termination
    elsewhere. Without ``next_states``, the observation after the last step of an episode is unknown, and the one before
    it is repeated.
    """

    extension: ClassVar[str] = ".minari"

    def owns(self, path: Path) -> bool:
        """Say whether a path is such a directory, of this extension or made by Minari itself."""
        return super().owns(path) or is_plain_file(_data_file(path)) or _other_format(path) is not None

    def fill(self, snapshot: MemorySnapshot, directory: Path) -> None:
        """Write the two files of a dataset that is called as the directory is."""
        _fill(snapshot, directory, directory.name)

    def save(self, snapshot: MemorySnapshot, path: Path) -> int:
        """Write the directory, which is complete under its name or not there; returns the size of its files in bytes.

        Raises:
            InvalidValue: if a tensor that Minari needs is missing, or of a dtype that its spaces do not have.
            WriteFailed: if the operating system refused, or a directory of that name holds other files.
        """
        snapshot.require_unchanged()
        return commit_directory(path, lambda directory: _fill(snapshot, directory, path.name))

    def read(self, path: Path) -> MemorySnapshot:
        """Read a dataset, verified where Keepfast wrote it; the episodes of others follow one another."""
        source = _data_file(path)
        if not is_plain_file(source) and (other := _other_format(path)) is not None:
            return _of_arrow(path, *other)
        if not is_plain_file(source):
            raise NotFound(f"`{path}` is no Minari dataset: there is no `{_DATA}` in it")
        with verified(source, CorruptMemory) as file:
            header, place = _header(file)
            if header is not None:
                check_header(header, source)
                _check_metadata(header, source.with_name(_METADATA))
            with damage_of_hdf5(), h5py.File(file, "r") as data:
                tensors = foreign_tensors(data) if header is None else own_tensors(data, header, (file, place))
        return snapshot_from(tensors, header or {}, source)


def _data_file(path: Path) -> Path:
    """Return the file with the episodes, in a directory or in the ``data`` directory below it."""
    return path / _DATA if (path / _DATA).exists() else path / "data" / _DATA


def _other_format(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return Minari's metadata of a dataset that is not HDF5, and what they say; None for what is none."""
    for metadata in (path / _METADATA, path / "data" / _METADATA):
        if is_plain_file(metadata) and metadata.stat().st_size <= _LARGEST_METADATA:
            with contextlib.suppress(ValueError, RecursionError):
                told = json.loads(metadata.read_bytes())
                other = told.get("data_format") if isinstance(told, dict) and "observation_space" in told else None
                return (metadata, told) if isinstance(other, str) and other != "hdf5" else None
    return None


def _of_arrow(path: Path, metadata: Path, told: dict[str, Any]) -> MemorySnapshot:
    """Read a dataset that Minari has as Arrow or Parquet."""
    if (kind := told["data_format"]) not in _OTHERS:
        raise Unreadable(
            f"`{path}` cannot be read by Keepfast, whole as it may be: Minari has it as {shown(kind)}; let it have the "
            "dataset as HDF5 (`data_format='hdf5'`)"
        )
    try:
        from keepfast.formats.memories.minari.arrow.dataset import arrow_tensors
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"`{path}` is a dataset that Minari has as {kind}, which `pyarrow` reads, and it is not installed; run: "
            'pip install "keepfast[data]"'
        ) from error
    return snapshot_from(arrow_tensors(metadata, told), {}, metadata)


def _fill(snapshot: MemorySnapshot, directory: Path, name: str) -> None:
    metadata = metadata_of(snapshot, name)
    with (directory / _DATA).open("x+b") as file:
        _write_data(snapshot, file, {_METADATA_CRC: crc32(metadata)})
    (directory / _METADATA).write_bytes(metadata)


def _write_data(snapshot: MemorySnapshot, file: BinaryIO, further: dict[str, Any]) -> None:
    """Write the episodes and the trailer, whose document tells of something further."""
    observations_of(snapshot.tensors)
    with h5py.File(file, "w", track_order=True) as data:
        told = write_episodes(data, snapshot)
    document = {**json.loads(header_text(snapshot)), _EPISODES: told, **further}
    header = json.dumps(document, separators=(",", ":")).encode()
    file.seek(0, 2)
    write_rest(file, snapshot)
    file.write(header)
    file.write(_TRAILER.pack(_MARK, len(header), _digest(file)))


def _digest(file: BinaryIO, size: int | None = None) -> int:
    """Return the CRC-32 of a file, or of its beginning."""
    file.seek(0)
    digest, left = 0, file.seek(0, 2) if size is None else size
    file.seek(0)
    while left > 0 and (chunk := file.read(min(left, 1 << 20))):
        digest = crc32(chunk, digest)
        left -= len(chunk)
    file.seek(0, 2)
    return digest


def _header(file: BinaryIO) -> tuple[dict[str, Any] | None, int]:
    """Return the document of a verified file and where it begins; None and 0 for one that another tool wrote."""
    size = file.seek(0, 2) - _TRAILER.size
    file.seek(max(size, 0))
    trailer = file.read(_TRAILER.size)
    mark, length, digest = _TRAILER.unpack(trailer) if len(trailer) == _TRAILER.size else (b"", 0, 0)
    if mark != _MARK:
        if size + _TRAILER.size > _end_of_hdf5(file):
            raise Damage("end", "is not what was written")
        return None, 0
    if _digest(file, size) != digest or length > size:
        raise Damage("content", "is not as it was written (its CRC-32 says so)")
    file.seek(size - length)
    return header_from(file.read(length)), size - length


def _end_of_hdf5(file: BinaryIO) -> int:
    """Return where a file ends by its superblock, which says so at one of three places; else where it does."""
    file.seek(0)
    block = file.read(_SUPERBLOCK)
    if len(block) == _SUPERBLOCK and block[:8] == b"\x89HDF\r\n\x1a\n" and block[8] in _ENDS:
        return int.from_bytes(block[_ENDS[block[8]] :][:8], "little")
    return file.seek(0, 2)


def _check_metadata(header: dict[str, Any], metadata: Path) -> None:
    """Check that Minari's file is as it was written."""
    if _METADATA_CRC not in header:
        return
    if not is_plain_file(metadata):
        raise CorruptMemory(f"`{metadata.parent}` is damaged: `{_METADATA}` is missing")
    content = metadata.read_bytes()
    if crc32(content) != header[_METADATA_CRC] and not (_EPISODES in header and is_changed_by_others(content)):
        raise CorruptMemory(f"`{metadata}` is damaged: it is not as it was written (its CRC-32 says so)")
