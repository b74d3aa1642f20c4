"""MemoryLog: a memory of a checkpoint by the rows that were added, each in the segment that they came with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from keepfast.codec import dtype_of
from keepfast.errors import InvalidValue, as_given

Part = tuple[int, int]
"""Places of a memory: the first, and how many there are from there on, going round."""

LOG = "_log"
"""How the names of the folders end that segments lie in, beside checkpoints."""

MOST_SEGMENTS = 256
"""How many segments a log has before the memory is written whole again: one that grows by less at each checkpoint is
written anew at less than every 256th part of it a checkpoint, and no checkpoint is of more files."""

_NAME = re.compile(r"(?!\.)[^/\\\0]+_log/segment_\d{1,18}_[0-9a-f]{8}\.[^/\\\0]+")


def is_segment(name: str) -> bool:
    """Say whether a name, from the directory of the checkpoints on, is one that a segment has."""
    return _NAME.fullmatch(name) is not None


@final
@dataclass(frozen=True)
class Segment:
    """A file of rows, which is not changed once it is there.

    Attributes:
        file: its name, from the directory of the checkpoints on.
        size: its size in bytes.
        digest: its digest, as the index has those of checkpoints.
        parts: the places that it has of each tensor.
    """

    file: str
    size: int
    digest: str
    parts: Mapping[str, Part]


@final
@dataclass(frozen=True)
class MemoryLog:
    """Where the rows of a memory lie: in segments, of which what is written later stands above what was before.

    Attributes:
        memory_size: the number of rows of the memory.
        num_envs: the number of its environments.
        tensors: the dtype of each tensor, and the shape of one sample.
        segments: the segments, the oldest first.
    """

    memory_size: int
    num_envs: int
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    segments: tuple[Segment, ...] = ()

    @property
    def capacity(self) -> int:
        """Return the number of places."""
        return self.memory_size * self.num_envs

    @classmethod
    def of(cls, told: Any) -> MemoryLog:
        """Return what a checkpoint tells of a log.

        Raises:
            InvalidValue: if it is none. No other file than a segment may be opened, so each must be named as one.
        """
        try:
            tensors = {
                _text(name): (_text(dtype), tuple(map(_count, size))) for name, (dtype, size) in told["tensors"].items()
            }
            log = cls(_count(told["memory_size"]), _count(told["num_envs"]), tensors)
            return replace(log, segments=tuple(_segment(each, log) for each in told["segments"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidValue(f"a log of a memory is {as_given(told)}, which is none: {error!r:.200}") from error

    def as_mapping(self) -> dict[str, Any]:
        """Return what a file holds of it: a tree of plain values."""
        return {
            "memory_size": self.memory_size,
            "num_envs": self.num_envs,
            "tensors": {name: [dtype, list(size)] for name, (dtype, size) in self.tensors.items()},
            "segments": [
                {**vars(each), "parts": {name: list(part) for name, part in each.parts.items()}}
                for each in self.segments
            ],
        }

    def with_segment(self, segment: Segment) -> MemoryLog:
        """Return the log with another segment, without those of which nothing is left to see then."""
        covered: dict[str, list[Part]] = {name: [] for name in self.tensors}
        kept = []
        for each in (segment, *reversed(self.segments)):
            news = [
                _cover(covered[name], stretch)
                for name, part in each.parts.items()
                if name in covered
                for stretch in stretches(part, self.capacity)
            ]
            if any(news):
                kept.append(each)
        return replace(self, segments=tuple(reversed(kept)))

    def assembled(self, read: Callable[[Segment], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Return each tensor, of shape (memory_size, num_envs, *size); what no segment has is zeros.

        Args:
            read: returns the rows of a segment by tensor, verified.

        Raises:
            ValueError: if the rows of a segment are not those that the log tells of.
        """
        flat = {name: np.zeros((self.capacity, *size), dtype_of(dtype)) for name, (dtype, size) in self.tensors.items()}
        for segment in self.segments:
            rows = read(segment)
            for name, part in segment.parts.items():
                if name in flat:
                    self._put(flat[name], rows.get(name), part, name)
        return {
            name: tensor.reshape(self.memory_size, self.num_envs, *tensor.shape[1:]) for name, tensor in flat.items()
        }

    def _put(self, tensor: NDArray[Any], rows: NDArray[Any] | None, part: Part, name: str) -> None:
        if rows is None or rows.dtype != tensor.dtype or rows.shape != (part[1], *tensor.shape[1:]):
            raise ValueError(f"it has not the rows of `{name}` that the checkpoint tells of")
        done = 0
        for first, last in stretches(part, self.capacity):
            tensor[first:last] = rows[done : done + last - first]
            done += last - first


@final
@dataclass(frozen=True)
class NewRows:
    """What a checkpoint adds to the log of a memory.

    Attributes:
        log: the log so far.
        position: how many samples it is of, counted over all that were added to it.
        parts: the places of each tensor that are new.
        rows: their values, of shape (count, *size), by tensor.
        durable: called with the log, once the checkpoint that needs it is on disk.
    """

    log: MemoryLog
    position: int
    parts: Mapping[str, Part]
    rows: Mapping[str, NDArray[Any]]
    durable: Callable[[MemoryLog], None] = field(repr=False)


def stretches(part: Part, capacity: int) -> Iterator[tuple[int, int]]:
    """Yield the places of a part that follow one another, from one to another; two where it goes round."""
    first, count = part
    for start, stop in ((first, min(first + count, capacity)), (0, first + count - capacity)):
        if start < stop:
            yield start, stop


def _cover(covered: list[tuple[int, int]], stretch: tuple[int, int]) -> bool:
    """Take a stretch of places into those that are covered, and say whether any of them was not yet."""
    start, stop = stretch
    if any(first <= start and stop <= last for first, last in covered):
        return False
    touched = [each for each in covered if each[0] <= stop and start <= each[1]]
    for each in touched:
        covered.remove(each)
    covered.append((min([start, *(first for first, _ in touched)]), max([stop, *(last for _, last in touched)])))
    return True


def _segment(told: Any, log: MemoryLog) -> Segment:
    parts = {_text(name): (_count(first), _count(count)) for name, (first, count) in told["parts"].items()}
    if any(first >= max(log.capacity, 1) or count > log.capacity for first, count in parts.values()):
        raise ValueError("a part of a segment is not within the memory")
    if not is_segment(_text(told["file"])):
        raise ValueError(f"{told['file']!r:.100} is no name of a segment")
    return Segment(told["file"], _count(told["size"]), _text(told["digest"]), parts)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text belongs")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} where a count belongs")
    return value


def segments_of(logs: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the files of all segments that the metadata of a checkpoint names; none where it makes no sense.

    Those are the names of files that may be removed with it, so that only what a segment can be called counts.
    """
    found: list[str] = []
    for told in (logs or {}).values():
        segments = told.get("segments") if isinstance(told, Mapping) else None
        for each in segments if isinstance(segments, list | tuple) else ():
            name = each.get("file") if isinstance(each, Mapping) else None
            if isinstance(name, str) and is_segment(name):
                found.append(name)
    return tuple(dict.fromkeys(found))


def path_of_segment(directory: Path, file: str) -> Path:
    """Return where a segment lies."""
    return directory.joinpath(*file.split("/"))
