"""ShardedArray: a leaf of a host tree of which this process has a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from keepfast.tree import Tree, values


@final
@dataclass(frozen=True, eq=False)
class ShardedArray:
    """A copy, on the host, of what this process has of an array that is spread over processes.

    A backend's `host_copy` gives it in the place of such an array; a `ShardedFormat` of the same framework takes it.

    Attributes:
        shape: that of the whole array.
        dtype: its dtype.
        held: what this process has of it, as the format of its framework writes it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    held: Any

    def __repr__(self) -> str:
        return f"ShardedArray({self.dtype}{list(self.shape)})"


def holds_shards(tree: Tree) -> bool:
    """Say whether a host tree has an array in it of which this process has a part."""
    return any(isinstance(leaf, ShardedArray) for leaf in values(tree))
