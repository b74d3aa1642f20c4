"""Changes of files that mean harm or were torn: bits, splices, lengths, zip directories, headers, pickles by opcode."""

from __future__ import annotations

import pickle
import pickletools
import random
import re
import struct
from collections.abc import Callable

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
DIGITS = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
TEXTS = [b"-1", b"0", b"9" * 25, b"4611686018427387904", b"1e999", b"1e99999999999", b"NaN", b"Infinity", b"true"]
TEXTS += [b"null", b"[]", b"{}", b'""', b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900, b"1" * 5000]
OF_JSON = re.compile(rb'"[^"\\]{0,60}"|true|false|null|\[\]|\{\}')
ZIP_MARKS = re.compile(b"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07|\x07\x08)")
OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
CODE = [b"cos\nsystem\n(S'true'\ntR", b"cbuiltins\nexec\n(S'0'\ntR", b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R"]
NAMES = [b"cnumpy\nndarray\n", b"ctorch\nSize\n", b"ccollections\nCounter\n", b"cargparse\nNamespace\n", b"cx\ny\n"]
PIECES = [
    b"K\1",
    b"N",
    b"]",
    b"}",
    b")",
    b"(",
    b"2",
    b"\x85",
    b"\x86" * 60,
    b"h\0",
    b"q\0",
    b"\x94",
    b"K\1" + b"2\x86" * 40,
]
"""What is put into a pickle: whole instructions, which no reader can tell from those that were there."""


def _number(chosen: random.Random, size: int) -> int:
    return chosen.choice([*EXTREMES, size, size - 1, size + 1, chosen.randrange(1 << 16)])


def bits(content: bytearray, chosen: random.Random) -> None:
    for _ in range(chosen.randrange(1, 9)):
        content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)


def some_bytes(content: bytearray, chosen: random.Random) -> None:
    place = chosen.randrange(len(content))
    content[place : place + chosen.randrange(1, 9)] = chosen.randbytes(chosen.randrange(9))


def splice(content: bytearray, chosen: random.Random) -> None:
    """Put a part in the place of another, or in between."""
    start, to = chosen.randrange(len(content)), chosen.randrange(len(content))
    part = bytes(content[start : start + chosen.choice([1, 4, 16, 64, 1024])])
    content[to : to + chosen.choice([0, len(part)])] = part


def cut(content: bytearray, chosen: random.Random) -> None:
    """Drop the end, the beginning or a part between."""
    start = chosen.randrange(len(content))
    del content[start : chosen.choice([len(content), start + 1, start + 64])]


def length(content: bytearray, chosen: random.Random) -> None:
    """Put an extreme number where one may stand, in any width and order."""
    width, order = chosen.choice(["B", "H", "I", "Q"]), chosen.choice("<>")
    packed = struct.pack(order + width, _number(chosen, len(content)) % (1 << 8 * struct.calcsize(width)))
    place = chosen.randrange(len(content))
    content[place : place + len(packed)] = packed


def _of(pattern: re.Pattern[bytes], texts: list[bytes]) -> Callable[[bytearray, random.Random], None]:
    def change(content: bytearray, chosen: random.Random) -> None:
        if found := list(pattern.finditer(content)):
            place = chosen.choice(found)
            content[place.start() : place.end()] = chosen.choice([*texts, chosen.choice(found)[0]])

    return change


def directory(content: bytearray, chosen: random.Random) -> None:
    """Change a field of a header of a zip archive, or take that of another record."""
    found = [each.start() for each in ZIP_MARKS.finditer(content)]
    if not found:
        return length(content, chosen)
    place = chosen.choice(found) + chosen.randrange(2, 46)
    other = chosen.choice(found) + place - max(start for start in found if start < place)
    width = chosen.choice([1, 2, 4, 8])
    made = [_number(chosen, len(content)).to_bytes(9, "little")[:width], bytes(content[other : other + width])]
    content[place : place + width] = chosen.choice(made)
    return None


def opcode(content: bytearray, chosen: random.Random) -> None:
    """Put an instruction between two of a pickle, in the place of one, or take one out."""
    places = _instructions(bytes(content))
    index = chosen.randrange(len(places))
    end = places[index + 1] if index + 1 < len(places) else len(content)
    made = chosen.choice([*CODE, *NAMES, *PIECES, chosen.choice(OPCODES), b""])
    if chosen.random() < 0.3:
        other = chosen.randrange(len(places))
        made = bytes(content[places[other] : places[other + 1] if other + 1 < len(places) else len(content)])
    content[places[index] : chosen.choice([places[index], end])] = made


def _instructions(content: bytes) -> list[int]:
    """Return where the instructions of a pickle begin, or any places where it is none."""
    places = [0]
    try:
        places += [place for _, _, place in pickletools.genops(content) if place]
    except (ValueError, IndexError, EOFError, pickle.UnpicklingError, struct.error, OverflowError):
        places += range(1, len(content), 97)
    return places


CHANGES = (bits, some_bytes, splice, cut, length, _of(DIGITS, TEXTS), _of(OF_JSON, TEXTS), directory)


def changed(content: bytes, chosen: random.Random, *, is_pickle: bool = False) -> bytes:
    """Return content with one to three changes of any kind in it."""
    made = bytearray(content)
    for _ in range(chosen.choice([1, 1, 1, 2, 3])):
        if made:
            (opcode if is_pickle and chosen.random() < 0.7 else chosen.choice(CHANGES))(made, chosen)
    return bytes(made)
