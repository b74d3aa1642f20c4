"""Registers the JAX backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import holdfast


@holdfast.hookimpl
def holdfast_backends() -> Mapping[str, Callable[[], Any]]:
    """List the backend of this package."""
    return {"jax": holdfast.lazy("holdfast_jax.backend:JaxBackend", requires=("jax", "flax"), extra="jax")}
