"""Exchanges the numbers of arrays in place, so that what was overwritten is kept without memory for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_PIECE = 1 << 18
"""How much is exchanged at a time: little enough to be in the processor's cache when it is written back."""


@final
class Exchange:
    """Pairs of arrays of the same shapes and dtypes, whose numbers change places.

    Wherever it is interrupted, `put_back` gives each first one its former numbers; and it may be interrupted as well.

    Args:
        pairs: contiguous arrays that share no memory, the first ones those that get other numbers.
    """

    def __init__(self, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> None:
        self._pieces = [
            (own[start : start + _PIECE], new[start : start + _PIECE])
            for own, new in ((_bytes(own), _bytes(new)) for own, new in pairs)
            for start in range(0, len(own), _PIECE)
        ]
        self._kept = np.empty(max((len(own) for own, _ in self._pieces), default=0), np.uint8)
        self._state = (0, False)
        """How many pieces have changed places, and whether what the next one had is kept; at once, for interrupts."""

    def make(self) -> None:
        """Give each first array the numbers of its second, and that one those of the first."""
        for number, (own, new) in enumerate(self._pieces):
            kept = self._kept[: len(own)]
            np.copyto(kept, own)
            self._state = (number, True)
            np.copyto(own, new)
            np.copyto(new, kept)
            self._state = (number + 1, False)

    def put_back(self) -> None:
        """Give each first array what it had; the second ones are of no use then."""
        done, is_kept = self._state
        if is_kept:
            own = self._pieces[done][0]
            np.copyto(own, self._kept[: len(own)])
        for own, new in self._pieces[:done]:
            np.copyto(own, new)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)
