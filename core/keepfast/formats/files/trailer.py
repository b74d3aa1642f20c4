"""A trailer for formats that know arrays but neither digests nor Python's containers.

It is JSON behind, or at the end of, a document that other tools read:

- ``payloads``: for each run of array bytes, the array's path, where it begins in the file, its size, its CRC-32;
- ``tree``: the containers and all that is no array, as `keepfast.codec` encodes them; an array is its dtype and shape,
  and its bytes are the next payloads, one or more where the document has them in chunks;
- ``metadata``: the checkpoint's.

The file ends with where the trailer begins and the seal: ``keepfast 1 <16 hexadecimal digits> <seal>``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from keepfast import codec
from keepfast.formats.files.flax_bytes import Piece
from keepfast.formats.files.sealed import (
    SEAL_DIGITS,
    Damage,
    SealedWriter,
    check_seal,
    digests_ahead,
    ends_with_seal,
    read_digested,
    wrong_digest,
)
from keepfast.interfaces.checkpoint_store import Checkpoint

_BEGINNING = b"keepfast 1 "
_OFFSET_DIGITS = 16
_ENDING = len(_BEGINNING) + _OFFSET_DIGITS + 1 + SEAL_DIGITS


def write_with_trailer(
    file: BinaryIO, checkpoint: Checkpoint, pieces: Iterable[Piece], introduce: Callable[[int], bytes]
) -> None:
    """Write a document and its trailer.

    Args:
        file: an empty file, open for writing.
        checkpoint: what the document is of.
        pieces: the document, the arrays in it in the order of the checkpoint's state.
        introduce: gives what the document needs before a trailer of so many bytes.
    """
    document = _described(checkpoint)  # first: it names the path of whatever cannot be stored
    pieces = list(pieces)
    buffers = [codec.array_bytes(piece[1]) for piece in pieces if isinstance(piece, tuple)]
    out = SealedWriter(file)
    payloads = []
    with digests_ahead([[buffer] for buffer in buffers]) as digests:
        remaining = iter(buffers)
        for piece in pieces:
            if isinstance(piece, bytes):
                out.structure(piece)
                continue
            buffer, start = next(remaining), out.position
            out.payload(buffer)
            payloads.append([piece[0], start, buffer.nbytes, next(digests)])
    text = json.dumps({"payloads": payloads, **document}, separators=(",", ":")).encode()
    out.structure(introduce(len(text) + _ENDING))
    start = out.position
    out.structure(text + _BEGINNING + f"{start:0{_OFFSET_DIGITS}x} ".encode())
    out.finish()


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    def put(_path: str, array: NDArray[Any]) -> list[Any]:
        return [str(array.dtype), list(array.shape)]

    return {"tree": codec.encode(checkpoint.state, put), "metadata": codec.encode(dict(checkpoint.metadata))}


def has_trailer(path: Path) -> bool:
    """Say whether a file ends as those of `write_with_trailer` do."""
    return ends_with_seal(path, _BEGINNING, _OFFSET_DIGITS + 1)


def read_with_trailer(file: BinaryIO) -> Checkpoint | None:
    """Return the verified checkpoint of a file that ends with a trailer, or None for another file.

    Raises:
        Damage: if any byte of the file is not as it was written.
    """
    end = file.seek(0, 2)
    file.seek(max(0, end - _ENDING))
    ending = file.read()
    if not ending.startswith(_BEGINNING):
        return None
    try:
        start = int(ending[len(_BEGINNING) :].split()[0], 16)
        if not 0 <= start <= end - _ENDING:
            raise Damage("trailer", f"begins at {start}, which is not in the file")
        file.seek(start)
        document = json.loads(file.read(end - _ENDING - start))
        spans = [(start, size) for _, start, size, _ in document["payloads"]]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Damage("trailer", f"cannot be read ({error})") from error
    check_seal(file, spans)
    arrays = _Arrays(file, iter(document["payloads"]))
    return Checkpoint(codec.decode(document["tree"], arrays.get), codec.decode(document["metadata"]))


@final
class _Arrays:
    """Reads arrays in the order in which they were written."""

    def __init__(self, file: BinaryIO, payloads: Iterator[list[Any]]) -> None:
        self._file, self._payloads = file, payloads

    def get(self, reference: Any) -> NDArray[Any]:
        dtype, shape = codec.dtype_of(reference[0]), tuple(reference[1])
        chunks = [self._next()]
        while sum(chunk.nbytes for chunk in chunks) < math.prod(shape) * dtype.itemsize:
            chunks.append(self._next())
        data = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        return codec.shaped(data.view(dtype), shape)

    def _next(self) -> NDArray[np.uint8]:
        path, start, size, written = next(self._payloads)
        data, digest = read_digested(self._file, start, size)
        if digest != written:
            raise wrong_digest(f"entry `{path}`", digest, written)
        return data
