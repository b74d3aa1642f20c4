"""Tensors as lines of comma-separated text, many rows at a time.

A cell is a separator and the text of a value, in words of eight characters, the first character in the lowest byte.
All words of a block are written to their places in one sweep, in order: whatever a word holds beyond its cell is
overwritten by the cells after it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from holdfast.codec import dtype_of
from holdfast.memory_formats._csv_cells import cell_texts
from holdfast.memory_formats._csv_floats import float32_words, word

_BLOCK = 4096
"""How many numbers are worked on at a time: few enough for the processor's cache."""

_TABLE = 1 << 16
"""How many different texts are worth a table."""

Cells = tuple[NDArray[np.uint64], NDArray[np.intp]]
"""The words of cells, of shape (n, words), and how many characters each cell has, its separator included."""


def lines(columns: Sequence[NDArray[Any]]) -> bytes:
    """Return rows as lines, each begun by a line feed in the place of the first separator.

    Args:
        columns: tensors of shape (rows, width), side by side.
    """
    rows, total = len(columns[0]), sum(tensor.shape[1] for tensor in columns)
    cells = [_cells(np.ascontiguousarray(tensor).reshape(-1)) for tensor in columns]
    words = np.empty((rows, total, max(text.shape[1] for text, _ in cells)), np.uint64)
    lengths = np.empty((rows, total), np.intp)
    first = 0
    for (text, length), tensor in zip(cells, columns, strict=True):
        place = slice(first, first + tensor.shape[1])
        words[:, place, : text.shape[1]] = text.reshape(rows, tensor.shape[1], text.shape[1])
        lengths[:, place] = length.reshape(rows, tensor.shape[1])
        first = place.stop
    words[:, :, 0] |= np.uint64(ord(","))
    words[:, 0, 0] ^= np.uint64(ord(",") ^ ord("\n"))
    return _placed(words.reshape(rows * total, -1), lengths.reshape(-1))


def _placed(words: NDArray[np.uint64], lengths: NDArray[np.intp]) -> bytes:
    """Return the texts that so many characters of the words are, one after another."""
    ends = np.cumsum(lengths)
    size, width = int(ends[-1]), 8 * words.shape[1]
    buffer = np.empty(size + width, np.uint8)
    anywhere = as_strided(buffer[:width].view(f"V{width}"), (size + 1,), (1,))
    anywhere[ends - lengths] = words.view(f"V{width}").reshape(-1)
    return buffer[:size].tobytes()


def _cells(values: NDArray[Any]) -> Cells:
    if values.dtype == np.float32:
        return _float32_cells(values)
    if values.dtype.itemsize == 1 or (values.dtype.itemsize == 2 and values.size >= _TABLE):
        words, lengths = _texts_of_all(str(values.dtype))
        index = values.view(f"u{values.dtype.itemsize}").astype(np.intp)
        return words.take(index, axis=0), lengths.take(index)
    if values.dtype.kind in "iu" and values.size:
        low, high = int(values.min()), int(values.max())
        if high - low < min(_TABLE, values.size):
            words, lengths = _text_cells(cell_texts(np.arange(low, high + 1, dtype=values.dtype)))
            index = (values - values.dtype.type(low)).astype(np.intp)
            return words.take(index, axis=0), lengths.take(index)
    return _text_cells(cell_texts(values))


@functools.cache
def _texts_of_all(dtype: str) -> Cells:
    """Return the cells of every value that a dtype of one or two bytes has, by its bits."""
    bits = np.arange(1 << 8 * dtype_of(dtype).itemsize, dtype=f"u{dtype_of(dtype).itemsize}")
    if dtype == "bool":
        bits = np.minimum(bits, 1)
    return _text_cells(cell_texts(bits.view(dtype_of(dtype))))


def _text_cells(texts: Sequence[bytes]) -> Cells:
    lengths = np.fromiter(map(len, texts), np.intp, len(texts)) + 1
    count = int(lengths.max(initial=1) + 7) // 8
    padded = np.array([b"\0" + text for text in texts], f"S{8 * count}")
    return padded.view(np.uint64).reshape(len(texts), count), lengths


_NANS = {0x7FC00000: b"\0nan", 0xFFC00000: b"\0-nan"}
"""The bits of the NaNs that calculations give, and their cells."""


def _float32_cells(values: NDArray[np.float32]) -> Cells:
    words, lengths = np.empty((len(values), 2), np.uint64), np.empty(len(values), np.intp)
    handled = np.empty(len(values), np.bool_)
    for start in range(0, len(values), _BLOCK):
        part = slice(start, start + _BLOCK)
        words[part, 0], words[part, 1], lengths[part], handled[part] = float32_words(values[part])
    if handled.all():
        return words, lengths
    for bits, text in _NANS.items():
        unknown = values.view(np.uint32) == bits
        words[unknown, 0], lengths[unknown] = word(text), len(text)
        handled |= unknown
    return _with_others(values, words, lengths, np.flatnonzero(~handled))


def _with_others(
    values: NDArray[np.float32], words: NDArray[np.uint64], lengths: NDArray[np.intp], others: NDArray[np.intp]
) -> Cells:
    """Return cells with those of other numbers in their places, wider where these need it."""
    if not len(others):
        return words, lengths
    texts, lengths[others] = _text_cells(cell_texts(values[others]))
    if texts.shape[1] > words.shape[1]:
        words = np.pad(words, ((0, 0), (0, texts.shape[1] - words.shape[1])))
    words[others, : texts.shape[1]] = texts
    return words, lengths
