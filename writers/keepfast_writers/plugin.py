"""Registers the built-in writers. A new writer is a row here and a file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import keepfast


@keepfast.hookimpl
def keepfast_writers() -> Mapping[str, Callable[..., Any]]:
    """List the writers of this package."""
    return {
        "console": keepfast.lazy("keepfast_writers.console:ConsoleWriter"),
        "csv": keepfast.lazy("keepfast_writers.csv:CsvWriter"),
        "mlflow": keepfast.lazy("keepfast_writers.mlflow:MlflowWriter", requires=("mlflow", "PIL"), extra="mlflow"),
        "jsonl": keepfast.lazy("keepfast_writers.jsonl:JsonlWriter"),
        "tensorboard": keepfast.lazy("keepfast_writers.tensorboard:TensorBoardWriter", requires=_event_library()),
        "trackio": keepfast.lazy("keepfast_writers.trackio:TrackioWriter", requires=("trackio",), extra="trackio"),
        "wandb": keepfast.lazy("keepfast_writers.wandb:WandbWriter", requires=("wandb",), extra="wandb"),
    }


def _event_library() -> tuple[str, ...]:
    """Return what the tensorboard writer lacks: the tensorboard package will do, and tensorboardX is smaller."""
    return () if importlib.util.find_spec("tensorboard") is not None else ("tensorboardX",)
