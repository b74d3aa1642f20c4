"""Registers the JAX backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keepfast


@keepfast.hookimpl
def keepfast_backends() -> Mapping[str, Callable[[], Any]]:
    """List the backend of this package."""
    return {"jax": keepfast.lazy("keepfast_jax.backend:JaxBackend", requires=("jax", "flax"), extra="jax")}


@keepfast.hookimpl
def keepfast_checkpoint_formats() -> Mapping[str, Callable[[], Any]]:
    """List the checkpoint format of what is spread over processes."""
    return {"orbax": keepfast.lazy("keepfast_jax.sharding.orbax:OrbaxStore", requires=("orbax", "jax"), extra="orbax")}
