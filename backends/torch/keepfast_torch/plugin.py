"""Registers the PyTorch backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keepfast


@keepfast.hookimpl
def keepfast_backends() -> Mapping[str, Callable[[], Any]]:
    """List the backend of this package."""
    return {"torch": keepfast.lazy("keepfast_torch.backend:TorchBackend", requires=("torch",), extra="torch")}


@keepfast.hookimpl
def keepfast_checkpoint_formats() -> Mapping[str, Callable[[], Any]]:
    """List the checkpoint format of what is spread over processes."""
    return {"dcp": keepfast.lazy("keepfast_torch.sharding.dcp:DcpStore", requires=("torch",), extra="torch")}
