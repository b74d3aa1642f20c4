"""Metrics: the table of what each agent tracks, and reading back what a run kept.

Example:
    >>> from keepfast import metrics
    >>> metrics.check({"Loss / Policy loss": None}, "PPO").missing[0]
    'Episode / Total timesteps (max)'
"""

from __future__ import annotations

from keepfast.metrics._catalogue import CataloguedMetric, MetricsReport, check, load_catalogue, tags
from keepfast.metrics.frames import Metrics, Series
from keepfast.metrics.reading import iter_metrics, read_metrics

catalogue = load_catalogue()
"""The whole table, one `CataloguedMetric` for each agent and metric."""

__all__ = [
    "CataloguedMetric",
    "Metrics",
    "MetricsReport",
    "Series",
    "catalogue",
    "check",
    "iter_metrics",
    "read_metrics",
    "tags",
]
