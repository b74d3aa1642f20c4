"""``keepfast show``: what one run holds, and where it comes from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from keepfast._system.remote.addresses import address_of, as_address
from keepfast.checkpoints.index import CHECKPOINTS
from keepfast.cli import console
from keepfast.cli.checkpoints import document_of as checkpoint_document
from keepfast.cli.checkpoints import table as checkpoint_table
from keepfast.cli.runs.listing import ago, document_of, number, progress, runs
from keepfast.errors import NotFound
from keepfast.provenance.described import described
from keepfast.provenance.starts import ENDED, PROVENANCE
from keepfast.runs.reading import Run, find_runs, is_run, read_run
from keepfast.runs.uploading.listing import holds_runs


def show(
    run: Annotated[Path, typer.Argument(help="A run's directory, or one of runs.", show_default=False)],
    as_json: console.AsJson = False,
    diff: Annotated[bool, typer.Option("--diff", help="Print how its code differed from the commit.")] = False,
) -> None:
    """Show where a run comes from, the latest value of each tag, and its checkpoints; list a directory of runs."""
    if _holds_runs(run):
        runs(run, as_json)
        return
    found = replace(read_run(run), path=run)
    if as_json:
        console.print_json(_document(found))
    elif diff:
        _show_difference(found)
    else:
        _show(found)


def _document(found: Run) -> dict[str, Any]:
    latest = {tag: {"step": each.step, "value": each.value} for tag, each in found.latest.items()}
    checkpoints = [checkpoint_document(found.path / CHECKPOINTS, each) for each in found.checkpoints]
    starts = [{key: value for key, value in start.items() if key != "config"} for start in found.starts]
    return {"kind": "run", **document_of(found), "latest": latest, "checkpoints": checkpoints, "starts": starts}


def _show(found: Run) -> None:
    out = console.output()
    for label, value in _facts(found, time.time()):
        out.print(console.fact(label, value))
    for facts in (_origin(found), _earlier(found)):
        told = [console.fact(label, value) for label, value in facts]
        if told:
            out.print("", *told, sep="\n")
    if found.latest:
        out.print("", _latest_table(found), sep="\n")
    if found.checkpoints:
        out.print("", checkpoint_table(found.path / CHECKPOINTS, found.checkpoints), sep="\n")


def _show_difference(found: Run) -> None:
    code = found.starts[-1][PROVENANCE].get("git") if found.starts else None
    if not isinstance(code, Mapping) or not code.get("diff"):
        raise NotFound(f"`{found.path}` keeps no difference of its code to a commit")
    console.print_text(str(code["diff"]))


def _holds_runs(path: Path) -> bool:
    """Say whether a directory is none of a run's and holds some."""
    if (address := address_of(path)) is not None:
        return holds_runs(address)
    if not path.is_dir() or is_run(path):
        return False
    try:
        return bool(find_runs(path))
    except NotFound:
        return False


def _facts(run: Run, now: float) -> Iterator[tuple[str, str]]:
    """Yield what there is to tell of a run, each with its label."""
    yield "run", f"{as_address(run.path)} ({decimal(run.size)}, last written {ago(now - run.changed)} ago)"
    if run.label.name:
        yield "name", run.label.name
    if run.label.tags:
        yield "tags", ", ".join(run.label.tags)
    yield "agent", run.agent or "not known"
    yield "steps", progress(run) or "none"
    if run.status:
        yield "status", run.status + (f": {run.error}" if run.error else "")
    yield "best score", "none" if run.best_score is None else f"{number(run.best_score)} ({run.best_metric})"
    if not run.latest:
        yield "metrics", "none"
    if not run.checkpoints:
        yield "checkpoints", "none"


def _origin(run: Run) -> Iterator[tuple[str, str]]:
    """Yield where the latest start comes from."""
    if not run.starts:
        return
    yield from described(run.starts[-1])
    told = run.starts[-1].get("warnings")
    for text, count in told.items() if isinstance(told, Mapping) else ():
        yield "warning" if count == 1 else f"warning ({count} times)", text


def _earlier(run: Run) -> Iterator[tuple[str, str]]:
    """Yield when the other starts were, and how they ended."""
    for place, start in enumerate(run.starts[:-1], 1):
        told = start.get(ENDED)
        ended = told if isinstance(told, Mapping) else {}
        how = ended.get("how") or "not known"
        yield f"start {place}", f"{start.get('time')}, {how}" + (f": {ended['error']}" if ended.get("error") else "")


def _latest_table(run: Run) -> Table:
    """Return a table of the latest value of each tag, and the timestep it is of."""
    table = console.table("tag", "latest value", "timestep", right=("latest value", "timestep"))
    for tag, latest in run.latest.items():
        table.add_row(console.cell(tag), console.cell(number(latest.value)), console.cell(str(latest.step)))
    return table
