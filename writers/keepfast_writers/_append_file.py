"""A file that grows by whole records."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import final

from keepfast import UsageError
from keepfast._system.disk.directories import make_directory, sync_directory, sync_file
from keepfast._system.disk.special import require_own


@final
class AppendFile:
    """Appends to a file, each time all or nothing, past every buffer of the process.

    What was appended survives a kill of the process at once; after `flush` it survives a loss of power too. In a
    forked child the file is the same, and records of both processes do not mix.

    A file that was removed meanwhile, or replaced by another one, is noticed at the next flush and made anew.

    Args:
        path: the file; made if it does not exist.
        head: what a new file begins with.

    Raises:
        OSError: if it cannot be opened for writing, or is a pipe, a socket, a device or a file of the kernel.
    """

    def __init__(self, path: Path, head: bytes = b"") -> None:
        self.path = path
        self._is_named = False
        self._head = head
        self._records = 0
        self._descriptor: int | None = None
        self._begin()

    def _begin(self) -> None:
        require_own(self.path)  # opening a pipe would wait for whoever reads from it
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        if self._head and os.fstat(self._descriptor).st_size == 0:
            self.append(self._head)
        self._is_named, self._records = False, 0

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
        self._records += 1

    def flush(self) -> None:
        """Return when all that was appended is on the disk.

        Raises:
            OSError: if the operating system refuses, or once where the file had vanished; it was made anew then.
        """
        if self._descriptor is not None:
            if self._has_vanished(self._descriptor):
                self._make_anew(self._descriptor)
            self._sync(self._descriptor)

    def _has_vanished(self, descriptor: int) -> bool:
        try:
            return not os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return True

    def _make_anew(self, descriptor: int) -> None:
        lost = self._records
        make_directory(self.path.parent)
        self._begin()
        os.close(descriptor)
        raise FileNotFoundError(
            f"`{self.path}` was removed while the run wrote to it, with the {lost} records that this process had "
            "appended; it was made anew, and the run goes on in it"
        )

    def _sync(self, descriptor: int) -> None:
        sync_file(descriptor)
        if not self._is_named:  # a new file is on the disk only once its directory is
            sync_directory(self.path.parent)
            self._is_named = True

    def close(self) -> None:
        """Flush and close; harmless the second time."""
        if self._descriptor is not None:
            try:
                self.flush()
            finally:
                descriptor, self._descriptor = self._descriptor, None
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
