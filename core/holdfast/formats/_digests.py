"""CRC-32 digests of entries, computed beside the writing and the reading of their bytes."""

from __future__ import annotations

import contextlib
import queue
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20
"""How much is read before it is digested: little enough to be in the processor's cache still."""


@contextlib.contextmanager
def digests_ahead(buffers: Sequence[Any]) -> Iterator[Iterator[int]]:
    """Give an iterator over the CRC-32 of each buffer, in order, computed on a thread while the caller writes them.

    Digesting is faster than writing and releases the interpreter's lock, so a writer that asks for each digest after
    writing the bytes waits for next to nothing.
    """
    found: queue.SimpleQueue[int] = queue.SimpleQueue()
    stopped = threading.Event()

    def digest_all() -> None:
        for buffer in buffers:
            if stopped.is_set():
                return
            found.put(zlib.crc32(buffer))

    worker = threading.Thread(target=digest_all, name="holdfast-digests", daemon=True)
    try:
        worker.start()
    except RuntimeError:  # the interpreter is ending and starts no more threads
        yield (zlib.crc32(buffer) for buffer in buffers)
        return
    try:
        yield (found.get() for _ in buffers)
    finally:
        stopped.set()
        worker.join()


def read_digested(file: BinaryIO, nbytes: int) -> tuple[NDArray[np.uint8], int]:
    """Read bytes into memory of their own and return them with their CRC-32.

    Raises:
        EOFError: if the file ends before.
    """
    data = np.empty(nbytes, np.uint8)
    view, digest, done = data.data, 0, 0
    while done < nbytes:
        count = file.readinto(view[done : done + _CHUNK])  # type: ignore[attr-defined]  # every real file has it
        if not count:
            raise EOFError(f"the file ends {nbytes - done} bytes too early")
        digest = zlib.crc32(view[done : done + count], digest)
        done += count
    return data, digest
