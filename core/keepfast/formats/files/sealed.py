"""What the formats share: every byte of a file under a CRC-32, computed beside the writing and the reading.

A file consists of payloads, the bytes of arrays, each with a digest of its own that names it when it is damaged; and
of all the rest, the structure, which has one digest, the seal. The seal stands at the end of the structure.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from keepfast._system.disk.checksum import Summed, SummedFile, crc32
from keepfast._system.disk.directories import path_of
from keepfast._system.disk.mapping import mapped_array
from keepfast._system.disk.special import is_plain_file
from keepfast._system.memory.room import Room
from keepfast._system.warnings import warn
from keepfast.errors import CorruptCheckpoint, CorruptFile, KeepfastError, Unreadable, shown
from keepfast.pickles.machine import CodeRefused

SEAL_DIGITS = 8
"""How long a digest is when written: hexadecimal, lower case."""

_CHUNK = 1 << 18
"""How much is read before it is digested: little enough to be in the processor's cache still."""

_WORTH_MAPPING = 1 << 26
"""From how many bytes on a payload of a mapped file is not read: it may be larger than the memory there is."""

_LONGEST = 500
"""How many characters are shown of the name of a part, and of what is wrong with it."""


@final
class Damage(Exception):
    """A file is not as it was written; a format makes the error of it that names the file.

    Args:
        part: what is damaged.
        reason: how that shows.
    """

    def __init__(self, part: str, reason: str) -> None:
        self.part, self.reason = shown(part, _LONGEST), shown(reason, _LONGEST)
        super().__init__(f"{self.part} {self.reason}")


def wrong_digest(part: str, found: int, written: int) -> Damage:
    """Return the damage of a payload whose digest is not what was written."""
    return Damage(part, f"has the CRC-32 {found:08x} where {written:08x} was written")


def warn_of_anew(path: Path, used: str = "nothing of what we told beside them is used") -> None:
    """Tell that another tool has written a file of ours anew, whose values are therefore that tool's."""
    warn(
        f"`{path}` was written anew by another tool since Keepfast wrote it, and is read as that tool's: our checksums "
        f"are not of these values, and {used}"
    )


@contextlib.contextmanager
def verified(path: Path, error: type[CorruptFile] = CorruptCheckpoint, *, mapped: bool = False) -> Iterator[BinaryIO]:
    """Open a file to read; damage and code that are found in it become the error that names the file.

    Whatever else is raised at content that is not as it should be becomes that error too, with its cause. Large
    payloads of a mapped file are memory-mapped instead of read. What Keepfast cannot read is told with the file's name.
    """
    with ReadFile(path, mapped=mapped) as file, naming(path, error):
        yield file


@contextlib.contextmanager
def naming(path: Path, error: type[CorruptFile] = CorruptCheckpoint) -> Iterator[None]:
    """Have what is found in a file, or in a part of it, become the error that names the file; see `verified`."""
    try:
        yield
    except Damage as damage:
        raise error(f"`{path}` is damaged: the {damage}") from damage
    except CodeRefused as refused:
        raise error(
            f"`{path}` is refused: it carries code, `{shown(refused.name)}`, and loading runs no code; a file "
            "holds arrays, numbers, strings and plain containers (save a state dict, not the object itself)"
        ) from refused
    except Unreadable as problem:
        raise Unreadable(f"`{path}` cannot be read by Keepfast, whole as it may be: {problem}") from problem
    except (KeepfastError, OSError, MemoryError):
        raise
    except Exception as problem:
        reason = shown(f"{type(problem).__name__}: {problem}", _LONGEST)
        raise error(f"`{path}` is damaged: its content cannot be read ({reason})") from problem


@final
class ReadFile(BufferedReader):
    """A file to read payloads of.

    Attributes:
        mapped: whether large payloads are memory-mapped, copy on write, instead of read.
        room: the memory that the others are read into.
    """

    def __init__(self, path: Path, *, mapped: bool) -> None:
        super().__init__(FileIO(path))
        self.mapped, self.room = mapped, Room(os.fstat(self.fileno()).st_size)


@final
class SealedWriter:
    """Writes structure and payloads front to back, and knows the seal of what it has written.

    Args:
        file: an empty file, open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = SummedFile(file)
        self._seal = 0

    @property
    def position(self) -> int:
        """Return how many bytes were written."""
        return self._file.position

    def structure(self, data: bytes) -> None:
        """Write bytes that the seal protects."""
        self._seal = crc32(data, self._seal)
        self._file.add(data)

    def payload(self, data: memoryview, digest: int = 0) -> int:
        """Write bytes that have a digest of their own; return that, going on from the one of what came before."""
        return self._file.write(data, digest)

    def finish(self) -> Summed | None:
        """Write the seal, and return what the file was written with, where that is known."""
        self._file.write(f"{self._seal:08x}".encode())
        return self._file.after(b"")


def ends_with_seal(path: Path, mark: bytes, between: int = 0) -> bool:
    """Say whether a file ends as ours do: with a mark, so many bytes, and the digits of the seal."""
    path = path_of(path)
    if not is_plain_file(path):
        return False
    length = len(mark) + between + SEAL_DIGITS
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - length))
        return file.read(len(mark)) == mark


def check_seal(file: BinaryIO, payloads: Iterable[tuple[int, int]]) -> None:
    """Check everything in a file but its payloads.

    Args:
        file: the file; its last bytes are the seal.
        payloads: where each begins and how many bytes it has.

    Raises:
        Damage: if anything differs from what was sealed.
    """
    end = file.seek(0, 2) - SEAL_DIGITS
    seal = crc_beside(file, payloads, end)
    file.seek(end)
    if file.read() != f"{seal:08x}".encode():
        raise Damage("structure", "(names, shapes, directory) differs from what was written")


def crc_beside(file: BinaryIO, payloads: Iterable[tuple[int, int]], end: int) -> int:
    """Return the CRC-32 of everything before a place in a file but its payloads.

    Raises:
        Damage: if a payload lies in another, or not before that place.
    """
    position, seal = 0, 0
    for start, size in [*sorted(payloads), (end, 0)]:
        if not position <= start <= end or size < 0:  # a position far outside would not even be sought
            raise Damage("directory", "has entries that overlap or lie outside the file")
        file.seek(position)
        seal = crc32(file.read(start - position), seal)
        position = start + size
    if position != end:
        raise Damage("directory", "has entries that overlap or lie outside the file")
    return seal


def read_digested(file: BinaryIO, start: int, nbytes: int) -> tuple[NDArray[np.uint8], int]:
    """Read bytes into memory of their own and return them with their CRC-32.

    Raises:
        EOFError: if the file ends before.
    """
    if isinstance(file, ReadFile) and file.mapped and nbytes >= _WORTH_MAPPING:
        mapped = mapped_array(file, start, nbytes)
        if mapped is not None:
            return mapped, crc32(mapped.data)
    file.seek(start)
    data = file.room.take(nbytes) if isinstance(file, ReadFile) else np.empty(nbytes, np.uint8)
    view, digest, done = data.data, 0, 0
    if nbytes <= _CHUNK and (done := file.readinto(view)):  # type: ignore[attr-defined]  # every real file has it
        if done == nbytes:
            return data, crc32(view)
        digest = crc32(view[:done])
    while done < nbytes:
        count = file.readinto(view[done : done + _CHUNK])  # type: ignore[attr-defined]  # every real file has it
        if not count:
            raise EOFError("ends after the file")
        digest = crc32(view[done : done + count], digest)
        done += count
    return data, digest
