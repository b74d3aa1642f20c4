"""Lightning: a logger and a callback for its trainer, of which an experiment keeps what a fit produces.

Neither is imported before it is asked for, for both import Lightning.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["KeepfastCallback", "KeepfastLogger"]

_HOME_OF = {"KeepfastCallback": "callback", "KeepfastLogger": "logger"}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
