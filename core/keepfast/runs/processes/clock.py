"""A clock beside the loop: a thread notices that time has passed, so that no timestep has to look."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import final


@final
class Clock:
    """Rings once some seconds have passed since it was set.

    Args:
        seconds: how many; None for a clock that never rings.
        ring: a method, called then on another thread, after `due` has become true; not kept alive by this.

    Attributes:
        due: whether it rang since it was set.
    """

    def __init__(self, seconds: float | None, ring: Callable[[], None]) -> None:
        self.due = False
        self._seconds, self._ring = seconds, weakref.WeakMethod(ring)
        self._timer: threading.Timer | None = None

    def set(self) -> None:
        """Count the seconds from now on."""
        if self._seconds is None:
            return
        self.stop()
        self._timer = threading.Timer(self._seconds, _rung, (weakref.ref(self),))
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.due = None, False


def _rung(reference: weakref.ref[Clock]) -> None:
    clock = reference()
    if clock is None or clock._timer is not threading.current_thread():  # noqa: SLF001  (it was set anew meanwhile)
        return
    clock.due = True
    if (ring := clock._ring()) is not None:  # noqa: SLF001
        ring()
