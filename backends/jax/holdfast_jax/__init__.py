"""Holdfast on JAX: the backend, a holder for flax.linen models, and memories."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from holdfast._version import __version__
from holdfast.errors import MissingDependency

if TYPE_CHECKING:
    from holdfast_jax.backend import JaxBackend
    from holdfast_jax.memory import RandomMemory
    from holdfast_jax.model import Model

_HOMES = {"JaxBackend": "backend", "Model": "model", "RandomMemory": "memory"}

__all__ = ["JaxBackend", "Model", "RandomMemory", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `holdfast_jax` has no attribute `{name}`")
    try:
        home = importlib.import_module(f"holdfast_jax.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("jax", "flax"):
            raise
        raise MissingDependency(
            f'`holdfast_jax.{name}` needs `{error.name}`, which is not installed; run: pip install "holdfast[jax]"'
        ) from error
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
