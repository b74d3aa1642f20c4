"""Registers the PyTorch backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import holdfast


@holdfast.hookimpl
def holdfast_backends() -> Mapping[str, Callable[[], Any]]:
    """List the backend of this package."""
    return {"torch": holdfast.lazy("holdfast_torch.backend:TorchBackend", requires=("torch",), extra="torch")}
