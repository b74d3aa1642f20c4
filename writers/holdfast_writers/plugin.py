"""Registers the built-in writers. A new writer is a row here and a file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import holdfast


@holdfast.hookimpl
def holdfast_writers() -> Mapping[str, Callable[..., Any]]:
    """List the writers of this package."""
    return {
        "console": holdfast.lazy("holdfast_writers.console:ConsoleWriter"),
        "csv": holdfast.lazy("holdfast_writers.csv:CsvWriter"),
        "jsonl": holdfast.lazy("holdfast_writers.jsonl:JsonlWriter"),
        "tensorboard": holdfast.lazy("holdfast_writers.tensorboard:TensorBoardWriter", requires=_event_library()),
        "wandb": holdfast.lazy("holdfast_writers.wandb:WandbWriter", requires=("wandb",), extra="wandb"),
    }


def _event_library() -> tuple[str, ...]:
    """Return what the tensorboard writer lacks: PyTorch's library will do, and tensorboardX is the smaller one."""
    has_torch = all(importlib.util.find_spec(package) is not None for package in ("torch", "tensorboard"))
    return () if has_torch else ("tensorboardX",)
