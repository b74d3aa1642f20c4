"""Damage as disks do it, for the contracts of file formats."""

from __future__ import annotations

import random
from collections.abc import Iterator

Damaged = tuple[str, bytes]
"""What was done to a file's bytes, and the bytes after it."""


def flips(intact: bytes, count: int, seed: int = 0) -> Iterator[Damaged]:
    """Yield the bytes with one bit flipped, each time another one, anywhere in the file."""
    for place in _chosen(range(8 * len(intact)), count, seed):
        damaged = bytearray(intact)
        damaged[place // 8] ^= 1 << place % 8
        yield f"bit {place % 8} of byte {place // 8} of {len(intact)} flipped", bytes(damaged)


def zeroed_blocks(intact: bytes, count: int, seed: int = 0, size: int = 4096) -> Iterator[Damaged]:
    """Yield the bytes with one block of zeros, each time another one, where a disk has its blocks.

    Args:
        intact: a file in which no block is zeros already.
        count: how many blocks; at most all that the file has.
        seed: chooses them.
        size: how many bytes a block has.
    """
    blocks = range(0, len(intact), size)
    for start in _chosen(blocks, count, seed):
        damaged = intact[:start] + bytes(len(intact[start : start + size])) + intact[start + size :]
        yield f"bytes {start} to {start + size} of {len(intact)} zeroed", damaged


def truncations(intact: bytes, count: int, seed: int = 0) -> Iterator[Damaged]:
    """Yield the beginning of the bytes, each time of another length, shorter than the whole."""
    for length in _chosen(range(len(intact)), count, seed):
        yield f"truncated to {length} of {len(intact)} bytes", intact[:length]


def _chosen(places: range, count: int, seed: int) -> list[int]:
    """Return so many of some places, or all there are."""
    return random.Random(seed).sample(places, min(count, len(places)))  # noqa: S311  (a choice, no secret)
