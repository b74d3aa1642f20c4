"""Keys that a file tells of: containers look them up by hashes, which whoever made the file can choose."""

from __future__ import annotations

from collections import Counter
from typing import Any

_ALIKE = 1 << 22
"""How often keys of a container may be compared because their hashes are the same."""


def few_alike(keys: list[Any]) -> list[Any]:
    """Return keys, of which few have one hash: a file can have any number that do, each compared with all.

    Raises:
        ValueError: if there are many.
    """
    if not all(type(key) is str for key in keys):
        alike = Counter(map(hash, keys))
        if sum(count * (count - 1) for count in alike.values()) > _ALIKE:
            raise ValueError("too many keys of one container have the same hash")
    return keys
