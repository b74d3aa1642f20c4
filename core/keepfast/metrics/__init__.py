"""Metrics: the table of what each agent tracks, and reading back what a run kept.

Example:
    >>> from keepfast import metrics
    >>> metrics.check({"Loss / Policy loss": None}, "PPO").missing[0]
    'Episode / Total timesteps (max)'
"""

from __future__ import annotations

from typing import Any

from keepfast.metrics._catalogue import CataloguedMetric, MetricsReport, agents, check, load_catalogue, tags
from keepfast.metrics.frames import Metrics, Series
from keepfast.metrics.reading import iter_metrics, read_metrics

catalogue: tuple[CataloguedMetric, ...]
"""The whole table, one `CataloguedMetric` for each agent and metric."""

__all__ = [
    "CataloguedMetric",
    "Metrics",
    "MetricsReport",
    "Series",
    "agents",
    "catalogue",
    "check",
    "iter_metrics",
    "load_catalogue",
    "read_metrics",
    "tags",
]


def __getattr__(name: str) -> Any:
    if name == "catalogue":  # plugins add to it, which are looked for at the first question
        return load_catalogue()
    raise AttributeError(f"module `keepfast.metrics` has no attribute `{name}`")
