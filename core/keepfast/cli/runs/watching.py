"""``keepfast watch``: a run as it goes on, in the terminal."""

from __future__ import annotations

import datetime as dt
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from keepfast.cli import console
from keepfast.cli.runs.listing import ago, number, progress
from keepfast.metrics.frames import Metrics, blocks
from keepfast.metrics.reading import has_metrics, read_metrics
from keepfast.provenance.ending import RUNNING
from keepfast.runs.reading import Run, read_run

_ROWS_BESIDE = 8
"""How many rows of the terminal the table leaves to what stands above and below."""

_READING_PART = 5
"""A run whose reading takes long is read so much more rarely: how many times as long is between."""


def watch(
    run: Annotated[Path, typer.Argument(help="A run's directory.", show_default=False)],
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it as it is now, and end.")] = False,
) -> None:
    """Watch a run: how far it is and for how long yet, its latest values and curves, until it ends or Ctrl-C."""
    out = console.output()
    view, found = _look(run)
    if once or not sys.stdout.isatty():
        out.print(view)
        return
    with Live(view, console=out, auto_refresh=False) as live:
        while found.status in (RUNNING, ""):
            before = time.monotonic()
            time.sleep(every)
            view, found = _look(run, out.height - _ROWS_BESIDE)
            live.update(view, refresh=True)
            took = time.monotonic() - before - every
            time.sleep(min(took * _READING_PART, 60.0))


def _look(path: Path, most: int | None = None) -> tuple[RenderableType, Run]:
    """Return a run as it is now, of so many tags at most."""
    run = read_run(path)
    metrics = read_metrics(path) if has_metrics(path) else Metrics()
    parts: list[RenderableType] = [
        console.fact("run", f"{run.path}, {run.agent or 'agent not known'}"),
        console.fact("status", run.status + (f": {run.error}" if run.error else "") or "not known"),
        console.fact("steps", f"{progress(run) or 'none'}{_pace(run, metrics)}"),
    ]
    if run.timesteps:
        (bar := Table.grid()).add_row(ProgressBar(run.timesteps, min(run.steps or 0, run.timesteps), width=40))
        parts.append(bar)
    if run.best_score is not None:
        parts.append(console.fact("best score", f"{number(run.best_score)} ({run.best_metric})"))
    if run.checkpoints:
        newest = max(run.checkpoints, key=lambda each: each.time)
        told = f"{len(run.checkpoints)}, the newest of timestep {newest.timestep}"
        parts.append(console.fact("checkpoints", f"{told}, {ago(max(time.time() - newest.time, 0))} ago"))
    return Group(*parts, Text(""), _table(metrics, most)), run


def _pace(run: Run, metrics: Metrics) -> str:
    """Return how fast the run is, and how long it takes yet, by the last values written; nothing where none tell."""
    series = max(metrics.values(), key=lambda each: len(each.steps), default=None)
    if series is None or len(series.steps) < 2:
        return ""
    last = slice(-10, None)
    steps, seconds = (float(part[last][-1] - part[last][0]) for part in (series.steps, series.wall_times))
    if steps <= 0 or seconds <= 0:
        return ""
    pace = steps / seconds
    left = (run.timesteps or 0) - (run.steps or 0)
    if run.status != RUNNING or left <= 0:
        return f", {pace:,.4g} a second"
    return f", {pace:,.4g} a second, {dt.timedelta(seconds=round(left / pace))} to go"


def _table(metrics: Metrics, most: int | None) -> RenderableType:
    table = console.table("tag", "latest", "curve", right=("latest",))
    tags = list(metrics)[: None if most is None else max(most, 1)]
    for tag in tags:
        values = metrics[tag].values
        curve = blocks(values).encode(sys.stdout.encoding or "ascii", "replace").decode(sys.stdout.encoding or "ascii")
        table.add_row(console.cell(tag), console.cell(number(float(values[-1]))), Text(curve))
    left = len(metrics) - len(tags)
    return Group(table, console.fact("more tags", left)) if left else table
