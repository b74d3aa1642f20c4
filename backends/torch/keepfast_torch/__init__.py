"""Keepfast on PyTorch: the backend, a mixin for models, and memories."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from keepfast import MissingDependency, __version__

if TYPE_CHECKING:
    from keepfast_torch.backend import TorchBackend
    from keepfast_torch.memory import RandomMemory
    from keepfast_torch.model import Model

_HOMES = {"Model": "model", "RandomMemory": "memory", "TorchBackend": "backend"}

__all__ = ["Model", "RandomMemory", "TorchBackend", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `keepfast_torch` has no attribute `{name}`")
    try:
        home = importlib.import_module(f"keepfast_torch.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependency(
            f'`keepfast_torch.{name}` needs `torch`, which is not installed; run: pip install "keepfast[torch]"'
        ) from error
    value = getattr(home, name)
    if "torch" in sys.modules:  # a compiled function may meet this name before any other of ours
        importlib.import_module("keepfast_torch.compiling").keep_out()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
