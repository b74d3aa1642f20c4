"""Writes a report on runs, and its figures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from keepfast._system.commit import commit
from keepfast.errors import InvalidValue
from keepfast.pictures.chart import Chart
from keepfast.pictures.figure import check_output, write_chart
from keepfast.pictures.vector import file_of
from keepfast.report.gathering import Problem, charts_of, gather
from keepfast.report.page import page

SMOOTHING = 0.6
"""How much curves are smoothed where nobody says."""

_LONGEST = 100


def write_report(
    runs: Iterable[Path],
    path: Path,
    on_problem: Problem,
    *,
    smoothing: float = SMOOTHING,
    figures: Path | None = None,
    form: str = "svg",
) -> list[Path]:
    """Write a report on runs as one page that needs nothing else.

    Args:
        runs: runs, or directories of runs.
        path: the page, whose name ends with ``.html``.
        on_problem: called with the path and the error of each run that cannot be read, which is passed over.
        smoothing: how much curves are smoothed, from 0, not at all, to below 1.
        figures: a directory that gets each figure as a file of its own too.
        form: what these are: ``"svg"`` or ``"png"``.

    Returns:
        What was written, the page first.

    Raises:
        InvalidValue: if the page has another name, or the smoothing is out of range.
        MissingDependency: if ``"png"`` is asked for, and Matplotlib is not installed.
        NotFound: if there are no runs.
        WriteFailed: if the operating system refused.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InvalidValue(f"cannot write a report as `{path}`; allowed: a name that ends with .html")
    if not 0 <= smoothing < 1:
        raise InvalidValue(f"`smoothing` is {smoothing:g}; allowed: from 0, not at all, to below 1")
    if figures is not None:
        check_output(Path(f"figure.{form}"))
    told = gather(runs, on_problem)
    charts = charts_of(told, smoothing)
    text = page(told, charts, smoothing)
    commit(path, lambda file: file.write(text.encode("utf-8", "replace")))
    return [path, *([] if figures is None else _write_figures(charts, figures, form))]


def _write_figures(charts: Iterable[Chart], folder: Path, form: str) -> list[Path]:
    written: list[Path] = []
    for chart in charts:
        name = re.sub(r"[^\w.()+-]+", "-", chart.tag).strip("-.")[:_LONGEST] or "figure"
        path = folder / f"{name}.{form}"
        for number in range(2, len(written) + 3):
            if path not in written:
                break
            path = folder / f"{name}-{number}.{form}"
        if form == "svg":
            content = file_of(chart).encode("utf-8", "replace")
            commit(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        else:
            write_chart(chart, path)
        written.append(path)
    return written
