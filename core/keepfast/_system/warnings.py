"""The one way Keepfast tells of something that does not stop the run."""

from __future__ import annotations

import sys
import warnings

from keepfast.errors import KeepfastWarning

_OWN = ("keepfast", "keepfast_torch", "keepfast_jax", "keepfast_writers")


def warn(message: str) -> None:
    """Warn, pointing at the line of the user's code that led here."""
    level = 2
    frame = sys._getframe(1)  # noqa: SLF001  (the interpreter's own, documented)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        frame = frame.f_back
        level += 1
    warnings.warn(message, KeepfastWarning, stacklevel=level)
