"""What reading a file may take: as much memory as there is, and records of an archive by its size."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from keepfast.errors import KeepfastError, OutOfMemory

_END, _END64 = struct.Struct("<4s4H2IH"), struct.Struct("<4sQ2H2I4Q")
_LOCATOR = 20
_USUAL_COMMENT, _LONGEST_COMMENT = 100, 0xFFFF
_WIDE = 0xFFFFFFFF
_RECORD = b"PK\1\2"
_OF_A_RECORD = 1000
"""About how many bytes of memory `zipfile` takes for a record, whose name may be a single character."""

_ROOM, _TIMES = 1 << 26, 4
"""How many bytes of memory a directory may take: so many, and so many times what the file has."""


@contextlib.contextmanager
def within_memory(path: object) -> Iterator[None]:
    """Read a file; where there is not the memory for what it holds, raise an error of ours that names it.

    Raises:
        OutOfMemory: if there is not the memory.
    """
    try:
        yield
    except KeepfastError:
        raise
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:  # which the system says where it maps a file
            raise
        raise OutOfMemory(
            f"`{path}` holds what takes more memory than there is; let the process have more, or read it elsewhere"
        ) from error


def require_room(nbytes: int) -> None:
    """Check that there is so much more memory, before a library is called that ends the process where there is not.

    Raises:
        MemoryError: if there is not.
    """
    np.empty(nbytes, np.uint8)


def opened_zip(file: BinaryIO | Path) -> zipfile.ZipFile:
    """Return an archive, as `zipfile` reads it, once it is known that its directory takes no more memory than it may.

    Raises:
        BadZipFile: if it is none, or its directory is of more records than a file of its size may have.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            require_few_records(opened)
    else:
        require_few_records(file)
    return zipfile.ZipFile(file)


def require_few_records(file: BinaryIO) -> None:
    """Check that an archive's directory has no more records than one of a file of its size may have.

    Raises:
        BadZipFile: if it has.
    """
    size = file.seek(0, os.SEEK_END)
    start, length = _directory(file, size)
    most = (_ROOM + _TIMES * size) // _OF_A_RECORD
    if length // len(_RECORD) <= most:
        return
    file.seek(start)
    if file.read(length).count(_RECORD) > most:
        raise zipfile.BadZipFile(
            f"its directory has more than {most:,} records, which a file of {size:,} bytes may not"
        )


def _directory(file: BinaryIO, size: int) -> tuple[int, int]:
    """Return where the directory of an archive begins and how long it is; 0 bytes where `zipfile` finds none."""
    for comment in (_USUAL_COMMENT, _LONGEST_COMMENT):
        file.seek(max(0, size - _END64.size - _LOCATOR - _END.size - comment))
        tail = file.read()
        if (place := tail.rfind(b"PK\5\6", 0, len(tail) - _END.size + 4)) >= 0:
            break
    else:
        return 0, 0
    end = size - len(tail) + place
    length = int(_END.unpack_from(tail, place)[5])
    before = place - _LOCATOR - _END64.size
    if length == _WIDE and before >= 0 and tail.startswith(b"PK\6\6", before):
        length, end = int(_END64.unpack_from(tail, before)[8]), size - len(tail) + before
    length = min(length, end)
    return end - length, length
