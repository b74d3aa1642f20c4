"""What a report tells: runs, which of them differ in nothing but their seeds, and the charts of their tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from keepfast.errors import NotFound, shown
from keepfast.metrics.frames import Metrics
from keepfast.metrics.reading import has_metrics, read_metrics
from keepfast.metrics.spread import Curve, curve_of, spread_of, spread_of_seeds
from keepfast.pictures.chart import Chart, Line, smoothed
from keepfast.runs.loops.seeds import MAXIMUM, MINIMUM, STANDARD_ERROR
from keepfast.runs.reading import Run, find_runs, is_run, read_run

_OF_EACH_RUN = re.compile(
    r"(^|[._])(random_?)?seeds?$|^experiment\.(experiment_name|directory|provenance)$", re.IGNORECASE
)
"""Settings in which runs may differ and still be seeds of one."""

_OF_SEEDS = (STANDARD_ERROR, MINIMUM, MAXIMUM)

Problem = Callable[[Path, Exception], None]


@final
@dataclass(frozen=True)
class Told:
    """A run, and what it tracked.

    Attributes:
        run: the run.
        metrics: its metrics, empty where it has none.
        label: what it is called in the report.
    """

    run: Run
    metrics: Metrics
    label: str


def gather(paths: Iterable[Path], on_problem: Problem) -> list[Told]:
    """Return the runs of paths that are runs, or directories of some.

    Raises:
        NotFound: if there are none that can be read.
    """
    found: dict[Path, tuple[Run, Metrics]] = {}
    for path in paths:
        for each in [path] if not path.is_dir() or is_run(path) else find_runs(path):
            try:
                found[each] = read_run(each), read_metrics(each) if has_metrics(each) else Metrics()
            except NotFound:
                raise
            except OSError as error:
                on_problem(each, error)
    if not found:
        raise NotFound("none of the runs can be read")
    names = [run.label.name or path.name for path, (run, _) in found.items()]
    return [
        Told(run, metrics, shown(name if names.count(name) == 1 else f"{name} ({path})"))
        for name, (path, (run, metrics)) in zip(names, found.items(), strict=True)
    ]


def groups_of(told: Sequence[Told]) -> list[list[Told]]:
    """Return the runs in groups that differ in nothing but their seeds."""
    groups: dict[str, list[Told]] = {}
    for each in told:
        own = {key: value for key, value in each.run.settings.items() if not _OF_EACH_RUN.search(key)}
        groups.setdefault(repr((each.run.agent, sorted(own.items(), key=str))), []).append(each)
    return list(groups.values())


def differences(told: Sequence[Told]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ, with the value of each run, None where it has none."""
    keys = dict.fromkeys(key for each in told for key in each.run.settings)
    keys = {key: None for key in keys if key not in ("experiment.experiment_name", "experiment.directory")}
    found = {key: [each.run.settings.get(key) for each in told] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values[1:])}


def charts_of(told: Sequence[Told], factor: float) -> list[Chart]:
    """Return a chart for each tag that has a finite value, by name."""
    groups = groups_of(told)
    tags = sorted({tag for each in told for tag in each.metrics if not tag.endswith(_OF_SEEDS)})
    charts = (Chart(tag, tuple(_lines(tag, groups, factor))) for tag in tags)
    return [chart for chart in charts if chart.lines]


def _lines(tag: str, groups: Sequence[Sequence[Told]], factor: float) -> list[Line]:
    lines = []
    for color, group in enumerate(groups):
        curves = {each.label: curve_of(each.metrics[tag]) for each in group if tag in each.metrics}
        curves = {label: curve for label, curve in curves.items() if len(curve.steps)}
        if curves:
            lines.append(_line(label_of(group), color, list(curves.values()), group[0].metrics, tag, factor))
    return lines


def label_of(group: Sequence[Told]) -> str:
    """Return what a group is called."""
    first = group[0].label
    return first if len(group) == 1 else f"{first} and {len(group) - 1} more seeds"


def _line(label: str, color: int, curves: list[Curve], metrics: Mapping[str, Any], tag: str, factor: float) -> Line:
    if len(curves) == 1:
        error = metrics.get(tag + STANDARD_ERROR)
        spread = None if error is None else spread_of_seeds(curves[0], curve_of(error))
        return Line(label, color, (curves[0],), smoothed(curves[0], factor), spread)
    spread = spread_of(curves)
    if not len(spread.steps):
        return Line(label, color, tuple(curves), smoothed(curves[0], factor))
    return Line(label, color, tuple(curves), smoothed(Curve(spread.steps, spread.mean), factor), spread)
