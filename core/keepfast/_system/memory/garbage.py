"""Python's search for garbage, which takes a quarter of the time in which a hundred thousand objects are made."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def unsearched() -> Iterator[None]:
    """Have nobody look for garbage while many objects are made that are all kept, or freed with their last user."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
