"""Event files that mean harm."""

from __future__ import annotations

import struct

from keepfast.metrics.tfrecord import frame


def event_file(*records: bytes) -> bytes:
    return b"".join(map(frame, records))


EVENTS = {
    "length": struct.pack("<QI", 2**62, 0) + b"x" * 40,
    "framed": event_file(b"\x2a" + b"\xff" * 9 + b"\x7f" + b"x"),
    "field": event_file(b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x3f"),
    "varint": event_file(b"\x10" + b"\xff" * 5000),
    "key": event_file(b"\xff" * 5000),
    "short": event_file(b"\x09\0"),
    "nested": event_file(b"\x2a\x04\x0a\x02\x12\x09"),
}
