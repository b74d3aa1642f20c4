"""Values that a pickle writes out as a line of text, as its oldest protocol does."""

from __future__ import annotations

import codecs
import pickle
import re

_WHOLE = re.compile(rb"[+-]?(0|[1-9][0-9]*)")


def quoted(line: bytes) -> str:
    """Return a text that is written out in quotes."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise pickle.UnpicklingError("a text is not in quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("ascii")


def whole(line: bytes) -> int:
    """Return a number that is written out; those that other readers take for octal ones are none."""
    if _WHOLE.fullmatch(line) is None:
        raise pickle.UnpicklingError("a number is not written as one")
    return int(line)


def real(line: bytes) -> float:
    """Return a number that may have a fraction."""
    if b"_" in line or line != line.strip():  # which Python's own `float` takes, and its unpickler does not
        raise pickle.UnpicklingError("a number is not written as one")
    return float(line)


def index(line: bytes) -> int:
    """Return the number of a part of the pickle."""
    if not line.isdigit():
        raise pickle.UnpicklingError("a part has no number")
    return int(line)
