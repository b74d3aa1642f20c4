"""``keepfast runs``: the runs of a directory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from keepfast.cli import _console
from keepfast.run_directory import DEFAULT_DIRECTORY
from keepfast.runs import Run, find_runs, read_run

COLUMNS = ("run", "agent", "steps", "best score", "age", "size")

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def runs(
    directory: Annotated[Path, typer.Argument(help="The directory that the runs lie in.")] = Path(DEFAULT_DIRECTORY),
) -> None:
    """List the runs of a directory: agent, steps, best score, size, and for how long nothing was written.

    A run that cannot be read is passed over with a warning.
    """
    table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    now = time.time()
    for path in find_runs(directory):
        try:
            table.add_row(*map(Text, row(read_run(path), directory, now)))
        except OSError as error:
            _console.warn_unreadable(path, error)
    _console.output().print(table)


def row(run: Run, directory: Path, now: float) -> tuple[str, str, str, str, str, str]:
    """Return the cells of a run: its path below the directory, and what there is to tell of it."""
    name = run.path.name if run.path == directory else str(run.path.relative_to(directory))
    return name, run.agent or "", progress(run), number(run.best_score), ago(now - run.changed), decimal(run.size)


def progress(run: Run) -> str:
    """Return the completed timesteps, and out of how many where that is known."""
    steps = "" if run.steps is None else str(run.steps)
    return f"{steps or 0}/{run.timesteps}" if run.timesteps else steps


def number(value: float | None) -> str:
    """Return a value in few digits, nothing for None."""
    return "" if value is None else f"{value:.6g}"


def ago(seconds: float) -> str:
    """Return a duration in its largest unit: ``3 h``."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "0 s"
