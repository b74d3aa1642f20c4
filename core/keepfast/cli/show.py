"""``keepfast show``: what one run holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from keepfast.cli import _console
from keepfast.cli.index import table as checkpoint_table
from keepfast.cli.runs import ago, number, progress
from keepfast.runs import Run, read_run


def show(run: Annotated[Path, typer.Argument(help="A run's directory.", show_default=False)]) -> None:
    """Show the latest value of each tag of a run, and its checkpoints."""
    found = read_run(run)
    console = _console.output()
    for label, value in facts(found, time.time()):
        console.print(Text.assemble((f"{label}: ", "bold"), value))
    if found.latest:
        console.print("", latest_table(found), sep="\n")
    if found.checkpoints:
        console.print("", checkpoint_table(found.checkpoints), sep="\n")


def facts(run: Run, now: float) -> Iterator[tuple[str, str]]:
    """Yield what there is to tell of a run, each with its label."""
    yield "run", f"{run.path} ({decimal(run.size)}, last written {ago(now - run.changed)} ago)"
    yield "agent", run.agent or "not known"
    yield "steps", progress(run) or "none"
    yield "best score", "none" if run.best_score is None else f"{number(run.best_score)} ({run.best_metric})"
    if not run.latest:
        yield "metrics", "none"
    if not run.checkpoints:
        yield "checkpoints", "none"


def latest_table(run: Run) -> Table:
    """Return a table of the latest value of each tag, and the timestep it is of."""
    table = Table("tag", "latest value", "timestep", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for tag, latest in run.latest.items():
        table.add_row(Text(tag), Text(number(latest.value)), Text(str(latest.step)))
    return table
