"""``keepfast report``: a page on runs to send around."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from keepfast.cli import console
from keepfast.errors import InvalidValue
from keepfast.report.writing import SMOOTHING, write_report


def report(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or directories of runs.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    smoothing: Annotated[
        float, typer.Option(help="How much curves are smoothed: 0, not at all, to below 1.")
    ] = SMOOTHING,
    figures: Annotated[
        Path | None, typer.Option(help="A directory for each figure as a file of its own.", show_default=False)
    ] = None,
    form: Annotated[Literal["svg", "png"], typer.Option(help="What these are.")] = "svg",
    force: Annotated[bool, typer.Option("--force", help="Replace the page where it is there already.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Write one page on runs: curves, what differs, checkpoints, memory, where they come from, their warnings."""
    if output.exists() and not force:
        raise InvalidValue(f"`{output}` is there already; --force replaces it, or give another name")
    written = write_report(runs, output, console.warn_unreadable, smoothing=smoothing, figures=figures, form=form)
    if as_json:
        sizes = [{"path": str(path), "size": path.stat().st_size} for path in written]
        console.print_json({"kind": "report", "files": sizes})
        return
    for path in written:
        console.output().print(console.cell(str(path)))
