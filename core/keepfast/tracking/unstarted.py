"""A writer that could not start, and is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

from keepfast.interfaces.writer import Writer

FIRST_PAUSE = 0.1
"""How many seconds a writer that could not start is left alone before it is tried again."""

LONGEST_PAUSE = 60.0
"""The pause doubles with each failure, up to these seconds."""


@final
class Unstarted:
    """A writer that could not start: why, how to try again, and when.

    Args:
        start: makes the writer, or raises.
        error: what it raised the first time.
    """

    def __init__(self, start: Callable[[], Writer], error: BaseException) -> None:
        self.error = error
        self._start = start
        self._pause = FIRST_PAUSE
        self._again_at = time.monotonic() + self._pause

    @property
    def rests(self) -> bool:
        """Say whether it is too early to try again."""
        return time.monotonic() < self._again_at

    def try_again(self) -> Writer | None:
        """Return the writer, or None where it still cannot start; `error` says why, and the next pause is longer."""
        try:
            return self._start()
        except (Exception, SystemExit) as error:  # noqa: BLE001  (counted, and told at close)
            self.error = error
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._again_at = time.monotonic() + self._pause
            return None
