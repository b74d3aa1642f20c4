"""What lies beside a csv, so that there is nothing in it but a header and rows: ``memory.csv.json``.

It is a JSON document: the size and the checksums of the csv that it is about, the document of
`keepfast.formats.memories.header`, and the bits of NaNs that no text keeps. It has its name before its csv has, and
tells the same of the csv that was there before, which is what a kill between the two leaves.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

from keepfast._system.disk.checksum import crc32
from keepfast._system.disk.special import content_of, special_kind
from keepfast.errors import CorruptMemory

_KIND = "memory.csv"
_MARK = b'{"keepfast":"memory.csv",'
_SEAL = b',"crc32":"'
_STEP = 1 << 23

_FINEST, _ALIKE = 16, 64
"""How long the first slices are, and how many of one length follow each other; the next are four times as long."""


@final
@dataclass(frozen=True)
class Sums:
    """The size of a file, and the CRC-32 of each of its slices, by which its beginning is known too."""

    size: int
    slices: tuple[int, ...]

    @classmethod
    def of(cls, data: mmap.mmap | bytes) -> Self:
        """Return those of a whole file."""
        summing = Summing()
        view = memoryview(data)
        for start in range(0, len(view), _STEP):
            summing.add(view[start : start + _STEP])
        return cls(summing.size, summing.slices())

    def begin(self, other: Sums) -> bool:
        """Say whether a shorter file is the beginning of another, as far as its whole slices tell."""
        whole = len(self.slices) if self.size in _ends(len(self.slices)) else len(self.slices) - 1
        return self.size < other.size and self.slices[:whole] == other.slices[:whole]

    def differ(self, other: Sums) -> float:
        """Return which share of the slices of a file of the same size differs from this one's."""
        pairs = list(zip(self.slices, other.slices, strict=True))
        wrong = sum(one != two for one, two in pairs)
        return wrong / len(pairs) if wrong > 1 else 0.0


@final
class Summing:
    """Sums that are made while a file is written."""

    def __init__(self) -> None:
        self.size = 0
        self._done: list[int] = []
        self._current, self._left = 0, _FINEST

    def add(self, block: bytes | memoryview) -> None:
        """Take what is written next."""
        view = memoryview(block)
        self.size += len(view)
        while view:
            part, view = view[: self._left], view[self._left :]
            self._current = crc32(part, self._current)
            self._left -= len(part)
            if not self._left:
                self._done.append(self._current)
                self._current, self._left = 0, _length(len(self._done))

    def slices(self) -> tuple[int, ...]:
        """Return the CRC-32 of each slice, of the last as far as it goes."""
        begun = self._left < _length(len(self._done))
        return (*self._done, self._current) if begun else tuple(self._done)


def _length(index: int) -> int:
    return _FINEST << 2 * (index // _ALIKE)


def _ends(count: int) -> tuple[int, ...]:
    """Return where so many slices end, which is where the last of them does if it is whole."""
    return (sum(map(_length, range(count))),)


@final
@dataclass(frozen=True)
class Said:
    """What is said of a csv.

    Attributes:
        sums: by which it is known.
        memory: the document of the memory that it holds, as JSON; None where it is another tool's.
        nans: the bits of NaNs that have their own, as JSON.
    """

    sums: Sums
    memory: Mapping[str, Any] | None = None
    nans: Any = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        slices = "".join(f"{each:08x}" for each in self.sums.slices)
        return {"size": self.sums.size, "slices": slices, "memory": self.memory, "nans": self.nans}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Return what `document` gives."""
        text = told["slices"]
        slices = tuple(int(text[start : start + 8], 16) for start in range(0, len(text), 8))
        return cls(Sums(told["size"], slices), told["memory"], told["nans"])


def companion_of(path: Path) -> Path:
    """Return what lies beside a csv; beside the file itself where the path is a link to it."""
    beside = path.with_name(f"{path.name}.json")
    if path.is_symlink() and not beside.exists():
        target = path.resolve()
        return target.with_name(f"{target.name}.json")
    return beside


def written(said: Said, previous: Said | None) -> bytes:
    """Return the document of a csv and of the one that it replaces."""
    told = {"keepfast": _KIND, **said.document(), "previous": previous and previous.document()}
    return _sealed(told)


def _sealed(told: Mapping[str, Any]) -> bytes:
    """Return a document with its CRC-32, whose text does not depend on how it is laid out."""
    text = json.dumps(told, separators=(",", ":"))
    return text.encode()[:-1] + _SEAL + b'%08x"}\n' % crc32(text.encode())


def said_in(companion: Path) -> list[Said] | None:
    """Return what a document says, of the csv that it is about and then of the one before; None if it is not ours.

    Raises:
        CorruptMemory: if it is ours and damaged.
        OSError: if it cannot be read.
    """
    if special_kind(companion):
        return None
    try:
        content = content_of(companion)
    except FileNotFoundError:
        return []
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        told = None
    is_whole = isinstance(told, dict) and told.get("keepfast") == _KIND
    if not is_whole and not (content.startswith(_MARK) or (_SEAL in content[-30:] and b'"slices":' in content)):
        return None
    if is_whole and "crc32" in told:
        crc32 = told.pop("crc32")
        if _sealed(told).endswith(_SEAL + b'%s"}\n' % str(crc32).encode()):
            return _said(told, companion)
    raise CorruptMemory(
        f"`{companion}` is damaged: its CRC-32 is not the one it tells; where you remove it, the csv beside it is read "
        "as another tool's"
    )


def _said(told: Mapping[str, Any], companion: Path) -> list[Said]:
    try:
        return [Said.of(each) for each in (told, told["previous"]) if each is not None]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptMemory(f"`{companion}` is damaged: it makes no sense: {error!r}") from error
