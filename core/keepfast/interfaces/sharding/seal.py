"""The seal of a directory that several processes wrote: what it holds, and the size and CRC-32 of every file in it.

It is one line of JSON, and one of its own CRC-32. The first process writes it last of all, so that a directory which
has none was never whole.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keepfast._system.disk.checksum import crc32
from keepfast._system.disk.directories import files_of, sync_named
from keepfast._system.disk.special import is_plain_file, require_file
from keepfast._system.side_by_side import side_by_side
from keepfast.errors import CorruptCheckpoint

SEAL = "keepfast.json"
"""The file that is the seal."""

_CHUNK = 1 << 20
_TAIL = len("\n01234567\n")


def digest_of(path: Path) -> list[Any]:
    """Return the size of a file and the CRC-32 of its bytes.

    Raises:
        OSError: if it cannot be read.
        Unreadable: if it is a pipe, a socket, a device or a file of the kernel.
    """
    size = value = 0
    require_file(path)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size, value = size + len(chunk), crc32(chunk, value)
    return [size, f"{value:08x}"]


def names_in(directory: Path) -> list[str]:
    """Return the files in and below a directory but for its seal, in the order of their names."""
    names = (file.relative_to(directory).as_posix() for file in files_of(directory))
    return [name for name in names if name != SEAL]


def settled(directory: Path, rank: int, size: int) -> dict[str, list[Any]]:
    """Make this process's share of the files in a directory durable, and return their digests by name.

    Args:
        directory: the directory, in which no process writes any more.
        rank: this process's number.
        size: how many there are.
    """
    names = names_in(directory)[rank::size]
    return dict(zip(names, side_by_side(_settled, [directory / name for name in names]), strict=True))


def _settled(path: Path) -> list[Any]:
    sync_named(path)
    return digest_of(path)


def write_seal(directory: Path, document: Mapping[str, Any]) -> None:
    """Write the seal of a directory; `document` has the digest of each file by name, as ``files``."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()
    (directory / SEAL).write_bytes(text + b"\n%08x\n" % crc32(text))


def is_sealed(directory: Path) -> bool:
    """Say whether a directory has what looks like a seal of ours, which may be damaged."""
    if not is_plain_file(path := directory / SEAL) or path.is_symlink():
        return False
    with path.open("rb") as file:
        beginning = file.read(1)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        return beginning == b"{" and re.fullmatch(rb"\n[0-9a-f]{8}\n", file.read(_TAIL)) is not None


def read_seal(directory: Path) -> dict[str, Any]:
    """Return what a seal says, every file of the directory verified.

    Raises:
        CorruptCheckpoint: if there is none, or it is damaged, or a file is not as it was sealed; names the file.
    """
    path = directory / SEAL
    there = set(_regular_files(directory))
    if SEAL not in there or not is_plain_file(path):
        raise CorruptCheckpoint(f"`{directory}` is damaged: it was never sealed, so that nobody knows it to be whole")
    content = path.read_bytes()
    text = content[:-_TAIL]
    if content[-_TAIL:] != b"\n%08x\n" % crc32(text):
        raise CorruptCheckpoint(f"`{path}` is damaged: it has another CRC-32 than what was written")
    document: dict[str, Any] = json.loads(text)
    _verify(directory, document["files"], there - {SEAL})
    return document


def _regular_files(directory: Path) -> Iterator[str]:
    """Yield the names of the files in and below a directory, relative to it.

    Raises:
        CorruptCheckpoint: at what is neither a file nor a directory: a pipe has no end, and a link leads elsewhere.
    """
    waiting = [""]
    while waiting:
        under = waiting.pop()
        for found in (directory / under).iterdir():
            mode, inner = found.lstat().st_mode, f"{under}{found.name}"
            if stat.S_ISDIR(mode):
                waiting.append(f"{inner}/")
            elif stat.S_ISREG(mode):
                yield inner
            else:
                raise CorruptCheckpoint(
                    f"`{found}` is neither a file nor a directory, and is no part of what was written"
                )


def _verify(directory: Path, files: Mapping[str, Sequence[Any]], found: Iterable[str]) -> None:
    there = set(found)
    for name, written in files.items():
        path = directory / name
        if name not in there:
            raise CorruptCheckpoint(f"`{path}` is missing, a part of what was written")
        if (read := digest_of(path)) != list(written):
            raise CorruptCheckpoint(
                f"`{path}` is damaged: it has {read[0]} bytes of the CRC-32 {read[1]}, and {written[0]} of "
                f"{written[1]} were written"
            )
    if strangers := sorted(there - files.keys()):
        raise CorruptCheckpoint(f"`{directory / strangers[0]}` is no part of what was written; move it elsewhere")
