"""Rows of values that come one part after another, in one place that grows."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_MORE = 1.02
"""How much more room is taken than what came so far tells."""


@final
class Growing:
    """Rows of values, in the one dtype that has them all; they are never there twice, as parts put together would be.

    Attributes:
        latest: the dtype of the rows that came last; None before the first.
    """

    def __init__(self) -> None:
        self._rows, self._values = 0, np.zeros((0, 0))
        self.latest: np.dtype[Any] | None = None

    def add(self, block: NDArray[Any], whole: float) -> None:
        """Add rows.

        Args:
            block: of shape (rows, columns), as many columns each time.
            whole: how many times as many rows there may be in the end as there are with these.
        """
        dtype = block.dtype if self.latest is None else np.result_type(self._values, block)
        self.latest, end = block.dtype, self._rows + len(block)
        if dtype != self._values.dtype or block.shape[1] != self._values.shape[1]:
            self._values = self._values[: self._rows].reshape(self._rows, block.shape[1]).astype(dtype)
        if end > len(self._values):
            self._values.resize((int(end * max(whole, 1.0) * _MORE), block.shape[1]), refcheck=False)
        self._values[self._rows : end] = block
        self._rows = end

    def taken(self) -> NDArray[Any]:
        """Return all rows; none can be added any more."""
        self._values.resize((self._rows, self._values.shape[1]), refcheck=False)
        return self._values
