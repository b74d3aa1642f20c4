"""Keepfast on JAX: the backend, a holder for flax.linen models, memories, and loops that live under jit."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keepfast import MissingDependency, __version__

if TYPE_CHECKING:
    from keepfast_jax.backend import JaxBackend
    from keepfast_jax.memory import RandomMemory
    from keepfast_jax.model import Model
    from keepfast_jax.scanning.scan import scan
    from keepfast_jax.scanning.tracked import Transitions

_HOMES = {
    "JaxBackend": "backend",
    "Model": "model",
    "RandomMemory": "memory",
    "Transitions": "scanning.tracked",
    "scan": "scanning.scan",
}

__all__ = ["JaxBackend", "Model", "RandomMemory", "Transitions", "__version__", "scan"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `keepfast_jax` has no attribute `{name}`")
    try:
        home = importlib.import_module(f"keepfast_jax.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("jax", "flax"):
            raise
        raise MissingDependency(
            f'`keepfast_jax.{name}` needs `{error.name}`, which is not installed; run: pip install "keepfast[jax]"'
        ) from error
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
