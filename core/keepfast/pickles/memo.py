"""The parts of a pickle that it refers to by numbers: PyTorch has every part of a tensor kept, and asks for few."""

from __future__ import annotations

import pickle
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, final

_Given = tuple[Any, ...]


@final
class Memo(dict[int, Any]):
    """The parts by their numbers; in the dictionary itself, those that are made already.

    Attributes:
        later: what makes the others when somebody asks for one, and what that is given.
    """

    __slots__ = ("_begins", "_end", "_highest", "_seen", "later")

    def __init__(self) -> None:
        super().__init__()
        self.later: list[tuple[Callable[..., Sequence[Any]], _Given]] = []
        self._begins, self._end = list[int](), 0
        self._highest, self._seen = -1, 0

    def __missing__(self, number: int) -> Any:
        place = bisect_right(self._begins, number) - 1
        if place >= 0:
            self._make(place)
        if number not in self:
            raise pickle.UnpicklingError(f"the pickle refers to its part {number}, which it has not")
        return self[number]

    def is_free(self, numbers: Collection[int]) -> bool:
        """Say whether nothing is kept under any of the numbers."""
        self.make_all()
        return self.keys().isdisjoint(numbers)

    def keep(self, numbers: list[int], make: Callable[..., Sequence[Any]], *given: Any) -> bool:
        """Keep what a function makes, later if the numbers follow each other behind all others; say if all are free."""
        begin, end = numbers[0], numbers[0] + len(numbers)
        if begin >= self._end and begin > self._highest_made() and numbers == [*range(begin, end)]:
            self._begins.append(begin)
            self.later.append((make, given))
            self._end = end
            return True
        if is_free := self.is_free(numbers):
            self.update(zip(numbers, make(*given), strict=True))
        return is_free

    def _highest_made(self) -> int:
        """Return the highest number of the dictionary, of which those that are new are looked at."""
        if len(self) != self._seen:
            self._highest = max(self._highest, *islice(reversed(self), len(self) - self._seen))
            self._seen = len(self)
        return self._highest

    def make_all(self) -> None:
        """Make what is to be made later, so that all that is kept is in the dictionary."""
        for place in range(len(self.later)):
            self._make(place)
        self.later, self._begins, self._end = [], [], 0

    def _make(self, place: int) -> None:
        make, given = self.later[place]
        for number, part in enumerate(make(*given), self._begins[place]):
            self.setdefault(number, part)  # what another part was kept over is that part
        self.later[place] = tuple, ()
