"""What is told beside a document, for formats that know arrays but neither digests nor Python's containers.

It is JSON behind, or at the end of, a document that other tools read:

- ``payloads``: for each run of array bytes, the array's path, where it begins in the file, its size, its CRC-32;
- ``tree``: the containers and all that is no array, as `keepfast.codec` encodes them; an array is its dtype and shape,
  and its bytes are the next payloads, one or more where the document has them in chunks;
- ``metadata``: the checkpoint's.

A trailer stands behind the document; the file ends with where it begins and the seal: ``keepfast 1 <16 hexadecimal
digits> <seal>``. An introduction stands in the document, as a text that other readers pass over: ``keepfast 2 <seal>
<JSON> keepfast 2``, where payloads begin so many bytes behind it, and digests are eight hexadecimal digits. The seal is
the CRC-32 of all but the payloads and itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from keepfast import codec
from keepfast._system.disk.checksum import Summed, SummedFile, crc32
from keepfast._system.disk.special import is_plain_file
from keepfast.errors import NewerFormat
from keepfast.formats.files.flax_bytes import Piece
from keepfast.formats.files.sealed import (
    SEAL_DIGITS,
    Damage,
    SealedWriter,
    check_seal,
    crc_beside,
    read_digested,
    wrong_digest,
)
from keepfast.interfaces.checkpoint_store import Checkpoint

_FRONT, _BACK = b"keepfast 2 ", b" keepfast 2"
_FRONT_SIZE = len(_FRONT) + SEAL_DIGITS + 1
_FRONTED = re.compile(rb"keepfast (\d) [0-9a-f]{8} ")
_WORDS = (b'{"payloads":[', b'"tree":', b'"metadata":')
_ENOUGH = 3
"""How many of the marks of an introduction tell it, or one of them behind its beginning: nobody else has them."""

_BEGINNING = b"keepfast 1 "
_OFFSET_DIGITS = 16
_ENDED = re.compile(rb"keepfast 1 [0-9a-f]{16} [0-9a-f]{8}")
_JSON = b'{"payloads":['
_ENDING = len(_BEGINNING) + _OFFSET_DIGITS + 1 + SEAL_DIGITS


def write_with_trailer(
    file: BinaryIO, checkpoint: Checkpoint, pieces: Iterable[Piece], introduce: Callable[[int], bytes]
) -> Summed | None:
    """Write a document and its trailer; return what the file was written with, where that is known.

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
    remaining = iter(buffers)
    for piece in pieces:
        if isinstance(piece, bytes):
            out.structure(piece)
            continue
        buffer, start = next(remaining), out.position
        payloads.append([piece[0], start, buffer.nbytes, out.payload(buffer)])
    text = json.dumps({"payloads": payloads, **document}, separators=(",", ":")).encode()
    out.structure(introduce(len(text) + _ENDING))
    start = out.position
    out.structure(text + _BEGINNING + f"{start:0{_OFFSET_DIGITS}x} ".encode())
    return out.finish()


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    def put(_path: str, array: NDArray[Any]) -> list[Any]:
        return [str(array.dtype), list(array.shape)]

    return {"tree": codec.encode(checkpoint.state, put), "metadata": codec.encode(dict(checkpoint.metadata))}


def has_trailer(path: Path) -> bool:
    """Say whether a file ends as those of `write_with_trailer` do."""
    if not is_plain_file(path):
        return False
    with path.open("rb") as file:
        return _trailer(file) is not None


def is_trailer(text: object) -> bool:
    """Say whether a text is a trailer, also one that is damaged at one place."""
    told = text.encode(errors="replace") if isinstance(text, str) else b""
    return told.startswith(_JSON) or _ENDED.fullmatch(told[-_ENDING:]) is not None


def _trailer(file: BinaryIO) -> tuple[int, bytes] | None:
    """Return where a trailer begins, and its JSON; None where a file does not end with one."""
    end = file.seek(0, 2) - _ENDING
    file.seek(max(0, end))
    ending = file.read()
    if end < 0 or _ENDED.fullmatch(ending) is None:
        return None
    start = int(ending[len(_BEGINNING) :].split()[0], 16)
    file.seek(min(start, end))
    text = file.read(max(0, end - start))
    return (start, text) if text.startswith(_JSON) else None


def read_with_trailer(file: BinaryIO) -> Checkpoint | None:
    """Return the verified checkpoint of a file that ends with a trailer, or None for another file.

    Raises:
        Damage: if any byte of the file is not as it was written.
    """
    found = _trailer(file)
    if found is None:
        return None
    document = _parsed(found[1])
    payloads = document["payloads"]
    check_seal(file, [(start, size) for _, start, size, _ in payloads])
    return _checkpoint(document, file, payloads)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
        for payload in document["payloads"]:
            path, start, size, digest = payload
            payload[3] = digest = int(digest, 16) if isinstance(digest, str) else digest
            if not isinstance(path, str) or not all(type(each) is int for each in (start, size, digest)):
                raise TypeError("a payload is told wrongly")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Damage("trailer", f"cannot be read ({error})") from error
    return document


def _checkpoint(document: Mapping[str, Any], file: BinaryIO, payloads: Iterable[Any]) -> Checkpoint:
    arrays = _Arrays(file, iter(payloads))
    return Checkpoint(codec.decode(document["tree"], arrays.get), codec.decode(document["metadata"]))


def write_with_introduction(
    file: BinaryIO, checkpoint: Checkpoint, pieces: Iterable[Piece], introduce: Callable[[int], bytes]
) -> Summed | None:
    """Write a document that has its introduction first; return what the file was written with, where that is known.

    Args:
        file: an empty file, open for writing, in which can be sought.
        checkpoint: what the document is of.
        pieces: what follows the introduction, the arrays in it in the order of the checkpoint's state.
        introduce: gives what stands before an introduction of so many bytes.
    """
    document = _described(checkpoint)  # first: it names the path of whatever cannot be stored
    parts = [piece if isinstance(piece, bytes) else (piece[0], codec.array_bytes(piece[1])) for piece in pieces]
    buffers = [part[1] for part in parts if isinstance(part, tuple)]
    file.write(_introduction(document, parts, [0] * len(buffers), introduce))
    behind, found = SummedFile(file), []
    for part in parts:
        if isinstance(part, bytes):
            behind.write(part)
        else:
            found.append(behind.write(part[1]))
    behind.flush()
    file.seek(0)
    file.write(introduction := _introduction(document, parts, found, introduce))
    file.seek(0, 2)
    return behind.after(introduction)


def _introduction(
    document: Mapping[str, Any],
    parts: Iterable[bytes | tuple[str, memoryview]],
    digests: Iterable[int],
    introduce: Callable[[int], bytes],
) -> bytes:
    payloads, start, known = [], 0, iter(digests)
    for part in parts:
        if isinstance(part, tuple):
            payloads.append([part[0], start, part[1].nbytes, f"{next(known):08x}"])
        start += len(part) if isinstance(part, bytes) else part[1].nbytes
    text = json.dumps({"payloads": payloads, **document}, separators=(",", ":")).encode()
    before = introduce(len(_FRONT) + SEAL_DIGITS + 1 + len(text) + len(_BACK)) + _FRONT
    seal = crc32(b" " + text + _BACK, crc32(before))
    for part in parts:
        seal = crc32(part, seal) if isinstance(part, bytes) else seal
    return before + f"{seal:08x} ".encode() + text + _BACK


def is_introduction(text: object) -> bool:
    """Say whether a text is an introduction, also one that is damaged."""
    told = text.encode(errors="replace") if isinstance(text, str) else b""
    words = sum(each in told for each in _WORDS)
    around = [told.startswith(_FRONT), told.endswith(_BACK)]
    return words + sum(around) >= _ENOUGH or (words > 0 and _FRONTED.match(told) is not None)


def has_introduction(file: BinaryIO, place: tuple[int, int] | None) -> bool:
    """Say whether a text of a file, told by where it begins and its length, is a whole introduction of any version."""
    if place is None:
        return False
    start, length = place
    file.seek(start)
    front = _FRONTED.fullmatch(file.read(_FRONT_SIZE))
    file.seek(max(start, start + length - len(_BACK)))
    return front is not None and file.read(len(_BACK)) == b" keepfast " + front[1]


def read_with_introduction(file: BinaryIO, place: tuple[int, int] | None) -> Checkpoint | None:
    """Return the verified checkpoint of a file with an introduction at a place, or None for another file.

    Raises:
        Damage: if any byte of the file is not as it was written.
        NewerFormat: if a later version wrote it.
    """
    if place is None or not has_introduction(file, place):
        return None
    start, length = place
    file.seek(start)
    text = file.read(length)
    if not text.startswith(_FRONT):
        raise NewerFormat("the file is of a later Keepfast; run: pip install -U keepfast")
    document = _parsed(text[_FRONT_SIZE : -len(_BACK)])
    payloads = [(path, start + length + at, size, digest) for path, at, size, digest in document["payloads"]]
    spans = [(at, size) for _, at, size, _ in payloads]
    seal = crc_beside(file, [(start + len(_FRONT), SEAL_DIGITS), *spans], file.seek(0, 2))
    if text[len(_FRONT) : _FRONT_SIZE - 1] != f"{seal:08x}".encode():
        raise Damage("structure", "(names, shapes, directory) differs from what was written")
    return _checkpoint(document, file, payloads)


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
