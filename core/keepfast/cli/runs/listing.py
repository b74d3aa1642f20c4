"""``keepfast runs``: the runs of a directory, filtered, sorted and grouped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from keepfast._system.memory.garbage import unsearched
from keepfast._system.remote.addresses import address_of, as_address
from keepfast.cli import console
from keepfast.cli.inspection.choosing import chosen, grouped
from keepfast.errors import NotFound
from keepfast.runs.directory import DEFAULT_DIRECTORY
from keepfast.runs.listing.index import list_runs
from keepfast.runs.reading import Run
from keepfast.runs.uploading.listing import list_remote_runs

_COLUMNS = ("run", "agent", "status", "steps", "best score", "age", "size", "tags")
_NUMBERS = ("steps", "best score", "age", "size")
_WHERE_TOLD: Mapping[str, Callable[[Run], bool]] = {
    "status": lambda run: run.status not in ("", "finished"),
    "tags": lambda run: bool(run.label.tags),
}
"""Columns that are shown where they say something of one run at least."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def runs(
    directory: Annotated[Path, typer.Argument(help="The directory that the runs lie in.")] = Path(DEFAULT_DIRECTORY),
    as_json: console.AsJson = False,
    where: Annotated[
        list[str] | None, typer.Option(help='Only runs that meet this: "lr=3e-4", "best>100"; may be given again.')
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Sort by this: best, steps, a setting or a tag.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort the other way round.")] = False,
    group: Annotated[
        list[str] | None, typer.Option(help="A row for each value of this: agent, a setting; may be given again.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Read every run anew, and make the index again.")] = False,
) -> None:
    """List the runs of a directory: agent, how each ended, steps, best score, size, and its time without a write.

    A run that cannot be read is passed over with a warning.
    """
    with unsearched():  # among ten thousand runs there is no garbage until all are shown
        found = chosen(_read(directory, rebuild=rebuild), where or [], sort, reverse=reverse)
        if group:
            _show_groups(found, group, as_json=as_json)
        elif as_json:
            console.print_json({"kind": "runs", "runs": [document_of(run) for run in found]})
        else:
            _show(found, directory)


def _read(directory: Path, *, rebuild: bool) -> list[Run]:
    if (address := address_of(directory)) is not None:
        return list_remote_runs(address, console.warn_unreadable, rebuild=rebuild)
    if not directory.is_dir():
        raise NotFound(f"there is no directory `{directory}`; give the one that your runs lie in")
    found = list_runs(directory, console.warn_unreadable, rebuild=rebuild)
    if not found:
        raise NotFound(f"there are no runs in `{directory}`")
    return found


def _show(found: Sequence[Run], directory: Path) -> None:
    """Print a row for each run; how they ended only where one did not finish, and tags where one has some."""
    now = time.time()
    columns = [name for name in _COLUMNS if name not in _WHERE_TOLD or any(map(_WHERE_TOLD[name], found))]
    rows = [_row(run, directory, now) for run in found]
    console.print_rows(columns, [[row[name] for name in columns] for row in rows], right=_NUMBERS)


def _row(run: Run, directory: Path, now: float) -> dict[str, str]:
    """Return the cells of a run: its name, or its path below the directory, and what there is to tell of it."""
    whole, above = str(run.path), f"{directory}/"
    path = whole.removeprefix(above) if whole.startswith(above) else run.path.name
    return {
        "run": f"{run.label.name} ({path})" if run.label.name else path,
        "agent": run.agent or "",
        "status": run.status,
        "steps": progress(run),
        "best score": number(run.best_score),
        "age": ago(now - run.changed),
        "size": decimal(run.size),
        "tags": ", ".join(run.label.tags),
    }


def _show_groups(found: list[Run], keys: list[str], *, as_json: bool) -> None:
    groups = grouped(found, keys)
    if as_json:
        listed = [
            {
                **each.facts(),
                "of": dict(zip(keys, each.values, strict=True)),
                "runs": [as_address(run.path) for run in each.runs],
            }
            for each in groups
        ]
        console.print_json({"kind": "groups", "groups": listed})
        return
    columns = (*keys, "runs", "best", "mean of best", "+/-", "steps")
    rows = []
    for each in groups:
        facts = each.facts()
        scores = (number(facts[key]) for key in ("best", "mean", "deviation"))
        steps = "" if facts["steps"] is None else str(facts["steps"])
        rows.append((*map(str, each.values), str(len(each.runs)), *scores, steps))
    console.print_rows(columns, rows, right=columns[len(keys) :])


def document_of(run: Run) -> dict[str, Any]:
    """Return what there is to tell of a run, as a document."""
    return {
        "path": as_address(run.path),
        "name": run.label.name or run.path.name,
        "tags": list(run.label.tags),
        "agent": run.agent,
        "status": run.status or None,
        "error": run.error,
        "began": run.began,
        "seconds": run.seconds,
        "steps": run.steps,
        "timesteps": run.timesteps,
        "best_metric": run.best_metric,
        "best_score": run.best_score,
        "changed": run.changed,
        "size": run.size,
        "settings": dict(run.settings),
    }


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
