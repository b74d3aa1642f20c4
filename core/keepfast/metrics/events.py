"""Reads scalars out of TensorBoard's events, with no library.

The fields are those of TensorFlow's protocol buffers: ``event.proto``, ``summary.proto`` and ``tensor.proto``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from keepfast._system.warnings import warn
from keepfast.metrics.tfrecord import read_records

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_VARINT_BITS = 70
"""Ten bytes of seven bits hold every number of 64 bits."""

_SESSION_START = 1

_SUMMARY = 5
"""The field of an event that holds what a writer was given."""

_TENSOR_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}

_NO_EVENT = (IndexError, TypeError, AttributeError, struct.error)
"""What reading a record raises that is of another kind."""


@final
@dataclass(frozen=True, slots=True)
class ScalarEvent:
    """What one event says.

    Attributes:
        wall_time: seconds since the epoch.
        step: the completed timesteps.
        scalars: the values by tag.
        starts_session: whether a run went on here, so that earlier events of this step and later ones are void.
    """

    wall_time: float
    step: int
    scalars: dict[str, float]
    starts_session: bool


def read_events(path: Path) -> Iterator[ScalarEvent]:
    """Yield the events of a file that hold scalars or start a session.

    Records that are damaged, and whole ones that are no events, are passed over, counted, and told in one warning.

    Raises:
        OSError: if the file cannot be read.
    """
    bad = damaged = 0
    with path.open("rb") as file:
        for record in read_records(file):
            if record is None:
                damaged += 1
                continue
            try:
                event = _event(record)
            except _NO_EVENT:
                bad += 1
                continue
            if event.scalars or event.starts_session:
                yield event
    if bad:
        warn(f"records of `{path}` that are no events were passed over: {bad}")
    if damaged:
        warn(f"records of `{path}` that are damaged were passed over: {damaged}; what else it holds was read")


def has_summaries(path: Path) -> bool:
    """Say whether a file holds anything a writer was given, beyond what it begins with; reads no further than that.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return any(record is not None and _is_summary(record) for record in read_records(file))


def _is_summary(record: bytes) -> bool:
    try:
        return any(field == _SUMMARY for field, _ in _fields(record))
    except _NO_EVENT:
        return False


def _event(data: bytes) -> ScalarEvent:
    wall_time, step, starts = 0.0, 0, False
    scalars: dict[str, float] = {}
    for field, value in _fields(data):
        match field:
            case 1:
                (wall_time,) = struct.unpack("<d", value)
            case 2:
                step = (value + 2**63) % 2**64 - 2**63
            case 5:
                scalars.update(_scalars(value))
            case 7:
                starts = any(inner == (1, _SESSION_START) for inner in _fields(value))
    return ScalarEvent(wall_time, step, scalars, starts)


def _scalars(summary: bytes) -> Iterator[tuple[str, float]]:
    for field, value in _fields(summary):
        if field != 1:
            continue
        parts = dict(_fields(value))
        number = _number(parts)
        if number is not None:
            yield parts.get(1, b"").decode("utf-8", "replace"), number


def _number(parts: dict[int, Any]) -> float | None:
    """Return a summary value's number: a simple value, or a tensor of one element, as newer writers have it."""
    if 2 in parts:
        (simple,) = struct.unpack("<f", parts[2])
        return float(simple)
    return _tensor_number(dict(_fields(parts[8]))) if 8 in parts else None


def _tensor_number(tensor: dict[int, Any]) -> float | None:
    dtype = _TENSOR_DTYPES.get(tensor.get(1, 0))
    packed = next((tensor[field] for field in (4, 5, 6) if field in tensor), None)
    if dtype is None or not isinstance(packed, bytes) or len(packed) != np.dtype(dtype).itemsize:
        return None
    return float(np.frombuffer(packed, dtype)[0])


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message: integers as they are, everything else as its bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            return  # groups were given up before these messages existed
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _VARINT_BITS, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise struct.error("a number of more bits than there are")
