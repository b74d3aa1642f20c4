"""Single-precision numbers as shortest decimal text, a whole array at a time.

The shortest text of a number is found by rounding it to 6, 7, 8 and 9 digits and taking the first that reads back as
just that number: 6 digits always survive single precision, 9 always suffice, and a text of fewer than 6 digits is one
of 6 with zeros behind. All intermediate values are whole numbers below 2**53 or correctly rounded quotients by powers
of ten, so double precision holds them as the reader will compute them.

Texts are built in two 64-bit words, the first character in the lowest byte, by shifting digits into place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U64 = np.uint64
_LOWEST, _HIGHEST = -4, 6
"""The decimal exponents that are handled here: of 0.0001 to 9999999."""

_CLASSES = np.arange(_LOWEST, _HIGHEST + 1)
_SCALE = 10.0 ** (8 - _CLASSES)  # of each class: makes a whole number of nine digits


def word(text: bytes) -> int:
    """Return up to eight characters as the number that a word holds."""
    return int.from_bytes(text, "little")


def _exponent_tables() -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return, for each binary exponent, the class of its smallest number, and the power of ten that begins the next."""
    smallest = 2.0 ** (np.arange(256) - 127)
    classes = np.clip(np.floor(np.log10(smallest)) - _LOWEST, 0, len(_CLASSES) - 1).astype(np.intp)
    return classes, 10.0 ** (classes + 1 + _LOWEST)


def _group_table(length: int, first: int) -> NDArray[np.uint64]:
    """Return the text of each group of digits and, in the top byte, how many digits a number has up to its last one.

    Args:
        length: how many digits a group has.
        first: how many digits come before the group. A group of zeros adds none.
    """
    texts = [b"%0*d" % (length, group) for group in range(10**length)]
    counts = [first + len(text.rstrip(b"0")) if text.strip(b"0") else 0 for text in texts]
    return np.array([word(text) | count << 56 for text, count in zip(texts, counts, strict=True)], U64)


def _layout_tables() -> tuple[NDArray[np.uint64], ...]:
    """Return, for each class and sign, how a number's digits become text.

    Returns:
        A mask of the digits before the point; the point, in its place among the digits; the text before the first
        digit, the first byte left to the separator; and four small numbers, a byte each: the length of that text in
        bits, how far the point moves the digits after it, in bits, how many characters there are beside the digits,
        and how many digits there are at least.
    """
    masks, points, prefixes, counts = [], [], [], []
    for sign in (b"", b"-"):
        for exponent in _CLASSES.tolist():
            before = max(exponent + 1, 0)
            prefix = b"\0" + sign + (b"" if before else b"0." + b"0" * (-exponent - 1))
            masks.append((1 << 8 * before) - 1 if before else (1 << 64) - 1)
            points.append(0x2E << 8 * before if before else 0)
            prefixes.append(word(prefix))
            moved, extra, least = (8, len(prefix) + 1, before + 1) if before else (0, len(prefix), 1)
            counts.append(8 * len(prefix) | moved << 8 | extra << 16 | least << 24)
    return tuple(np.array(column, U64) for column in (masks, points, prefixes, counts))


_CLASS_OF, _NEXT_CLASS = _exponent_tables()
_FIRST, _SECOND, _THIRD = (_group_table(4, 0), _group_table(4, 4), _group_table(1, 8))
_MASKS, _POINTS, _PREFIXES, _COUNTS = _layout_tables()


def float32_words(
    values: NDArray[np.float32],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the text of single-precision numbers.

    Args:
        values: of shape (n,).

    Returns:
        The first eight and the second eight characters, the very first left to a separator; how many there are; and
        for which numbers that holds: the others (very large or small ones, infinities, NaNs) are not handled here.
    """
    with np.errstate(all="ignore"):
        whole, classes, handled = _shortest(values)
    negative = np.signbit(values)
    layout = classes + negative * len(_CLASSES)
    first = np.floor(whole / 1e5)
    whole -= first * 1e5
    second = np.floor(whole / 10)
    whole -= second * 10
    leading, middle, last = (
        table.take(group.astype(np.intp)) for table, group in ((_FIRST, first), (_SECOND, second), (_THIRD, whole))
    )
    counts = _COUNTS.take(layout)
    digits = np.maximum(
        np.maximum(leading >> U64(56), middle >> U64(56)), np.maximum(last >> U64(56), counts >> U64(24))
    )
    lower, upper = _with_point((leading & U64(0xFFFFFFFF)) | middle << U64(32), last & U64(0xFF), layout, counts)
    return lower, upper, digits + (counts >> U64(16) & U64(0xFF)), handled


def _shortest(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.bool_]]:
    """Return the nine digits of each number as a whole one, its class, and whether they read back as the number."""
    magnitude = np.abs(values)
    exponent = (magnitude.view(np.uint32) >> np.uint32(23)).astype(np.intp)
    classes = _CLASS_OF.take(exponent)
    classes += magnitude >= _NEXT_CLASS.take(exponent)
    np.minimum(classes, len(_CLASSES) - 1, out=classes)
    scale = _SCALE.take(classes)
    exact = magnitude * scale
    whole = np.rint(exact)
    for unit in (10.0, 100.0, 1000.0):
        rounded = np.rint(exact / unit)
        rounded *= unit
        np.copyto(whole, rounded, where=(rounded / scale).astype(np.float32) == magnitude)
    handled = (whole / scale).astype(np.float32) == magnitude
    handled &= (whole < 1e9) & ((whole >= 1e8) | (whole == 0))
    whole[~handled] = 0
    return whole, classes, handled


def _with_point(
    digits: NDArray[np.uint64], ninth: NDArray[np.uint64], layout: NDArray[np.intp], counts: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return digits with their point, after the text that comes before them."""
    before = digits & _MASKS.take(layout)
    after = digits ^ before
    lower = before | _POINTS.take(layout) | after << U64(8)
    upper = after >> U64(56) | ninth << (counts >> U64(8) & U64(0xFF))
    shift = counts & U64(0xFF)
    return lower << shift | _PREFIXES.take(layout), upper << shift | lower >> (U64(64) - shift)
