"""What processes leave in files of arrays, as the tests of sharded checkpoints of both backends compare it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of a file of NumPy's."""
    with np.load(path) as found:
        return dict(found)


def same_bits(folder: Path, timestep: int) -> dict[str, Any]:
    """Return what was left at a timestep, which is bit for bit what others went on with from there."""
    left, found = arrays(folder / f"to_{timestep}.npz"), arrays(folder / f"from_{timestep}.npz")
    assert sorted(left) == sorted(found)
    assert [left[name].tobytes() for name in left] == [found[name].tobytes() for name in left]
    return left
