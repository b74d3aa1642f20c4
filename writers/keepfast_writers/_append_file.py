"""A file that grows by whole records."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import final

from keepfast import UsageError
from keepfast._system.disk.directories import sync_directory, sync_file


@final
class AppendFile:
    """Appends to a file, each time all or nothing, past every buffer of the process.

    What was appended survives a kill of the process at once; after `flush` it survives a loss of power too. In a
    forked child the file is the same, and records of both processes do not mix.

    Args:
        path: the file; made if it does not exist.

    Raises:
        OSError: if it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_named = False
        self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def append(self, record: bytes) -> None:
        """Append a record.

        Raises:
            OSError: if the operating system refuses; nothing of the record is left in the file then.
            UsageError: if the file was closed.
        """
        descriptor = self._open()
        written = 0
        try:
            while written < len(record):
                written += os.write(descriptor, record[written:] if written else record)
        except OSError:
            if written:  # half a record would hide all that follow
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise

    def flush(self) -> None:
        """Return when all that was appended is on the disk."""
        if self._descriptor is not None:
            self._sync(self._descriptor)

    def _sync(self, descriptor: int) -> None:
        sync_file(descriptor)
        if not self._is_named:  # a new file is on the disk only once its directory is
            sync_directory(self.path.parent)
            self._is_named = True

    def close(self) -> None:
        """Flush and close; harmless the second time."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                self._sync(descriptor)
            finally:
                os.close(descriptor)

    def remove_if_grown_no_further_than(self, size: int) -> None:
        """Remove the file where it holds no more bytes than these: what its start put there, and no value."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size <= size:
                self.path.unlink()

    def _open(self) -> int:
        if self._descriptor is None:
            raise UsageError(f"`{self.path}` was closed; make another writer")
        return self._descriptor
