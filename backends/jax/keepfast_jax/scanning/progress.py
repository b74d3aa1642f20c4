"""Tells a terminal how far a compiled loop is."""

from __future__ import annotations

import datetime as dt
import sys
import time
from typing import final

_PAUSE = 0.5
"""How many seconds lie between two lines at least."""


@final
class Progress:
    """Tells, on one line of the terminal, the steps done, how many there are a second, and when the end is expected.

    Where the standard error is no terminal it tells nothing.
    """

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self._told = 0.0

    def tell(self, done: int, length: int) -> None:
        """Tell that so many of a loop's steps are done."""
        if not sys.stderr.isatty():
            return
        now = time.monotonic()
        if self._began is None or done <= self._began[1]:
            self._began = now, done
        seconds, steps = now - self._began[0], done - self._began[1]
        if done >= length or (now - self._told >= _PAUSE and steps):
            self._told = now
            sys.stderr.write(f"\r\x1b[K{line(done, length, steps / seconds if seconds > 0 and steps else 0.0)}")
            sys.stderr.write("\n" if done >= length else "")
            sys.stderr.flush()
        if done >= length:
            self._began = None


def line(done: int, length: int, rate: float, now: dt.datetime | None = None) -> str:
    """Return what is told.

    Args:
        done: how many steps are done.
        length: how many there are.
        rate: how many there are a second, 0 where that is not known.
        now: the time, for the expected end.
    """
    told = f"{done:,} of {length:,} steps ({100 * done / length:.0f} %)"
    if not rate:
        return told
    end = (now or dt.datetime.now().astimezone()) + dt.timedelta(seconds=(length - done) / rate)
    return f"{told}, {rate:,.0f} a second" + (f", end expected at {end:%H:%M:%S}" if done < length else "")
