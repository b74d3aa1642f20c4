"""``keepfast index``, ``inspect`` and ``verify``: the checkpoints of a run, and what each holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS, IndexedCheckpoint
from keepfast.checkpoints.inspection import Inspection
from keepfast.checkpoints.inspection import inspect as inspect_file
from keepfast.checkpoints.scan import rebuild
from keepfast.checkpoints.verification import verify as verify_files
from keepfast.cli import console
from keepfast.errors import NotFound, shown


def index(
    path: Annotated[Path, typer.Argument(help="A run's directory, or its checkpoints.", show_default=False)],
    remake: Annotated[bool, typer.Option("--rebuild", help="Make index.json again from the files.")] = False,
) -> None:
    """List a run's checkpoints; with --rebuild, make the index again from the files themselves."""
    directory = CheckpointDirectory(path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path)
    if remake and directory.path.is_dir():
        _, damaged = rebuild(directory.path)
        for reason in damaged.values():
            console.warn(f"left out of the index: {reason}")
    checkpoints = directory.checkpoints()
    if not checkpoints:
        raise NotFound(f"there are no checkpoints at `{path}`")
    console.output().print(table(checkpoints))


def table(checkpoints: list[IndexedCheckpoint]) -> Table:
    """Return a table with a row for each checkpoint."""
    made = Table("timestep", "files", "modules", "metric", "bytes", box=None, header_style="bold", pad_edge=False)
    made.columns[4].justify = "right"
    for checkpoint in checkpoints:
        made.add_row(*map(console.cell, _row(checkpoint)))
    return made


def _row(checkpoint: IndexedCheckpoint) -> tuple[str, str, str, str, str]:
    metric = "" if checkpoint.metric is None else f"{checkpoint.metric['tag']} = {checkpoint.metric['value']:g}"
    return (
        "" if checkpoint.timestep is None else str(checkpoint.timestep),
        ", ".join(sorted(checkpoint.names)),
        ", ".join(checkpoint.modules),
        metric,
        f"{sum(file.size for file in checkpoint.files.values()):,}",
    )


def inspect(path: Annotated[Path, typer.Argument(help="A checkpoint file of any format.", show_default=False)]) -> None:
    """Show what a checkpoint holds: modules, entries, shapes, dtypes, bytes, timestep, metric, versions."""
    found = inspect_file(path)
    out = console.output()
    for label, value in _facts(found):
        out.print(console.fact(label, value))
    table = Table("module", "entry", "what", "bytes", box=None, header_style="bold", pad_edge=False)
    table.columns[3].justify = "right"
    for module, entries in found.modules.items():
        for entry in entries:
            table.add_row(
                console.cell(module),
                console.cell(entry.path),
                console.cell(entry.what),
                f"{entry.bytes:,}" if entry.bytes else "",
            )
    out.print(table)


def _facts(found: Inspection) -> list[tuple[str, str]]:
    metadata = found.metadata
    facts = [("file", f"{found.path} ({found.size:,} bytes, {found.total:,} of them in arrays), undamaged")]
    if not metadata.written_by_keepfast:
        return [*facts, ("written by", "another tool")]
    time = dt.datetime.fromtimestamp(metadata.time or 0.0, dt.UTC).astimezone()
    facts += [
        ("written by", f"keepfast {metadata.keepfast}, backend {metadata.backend}, {time:%Y-%m-%d %H:%M:%S %z}"),
        ("timestep", "not known" if metadata.timestep is None else str(metadata.timestep)),
    ]
    if metadata.metric is not None:
        facts.append(("metric", f"{metadata.metric['tag']} = {metadata.metric['value']:g}"))
    return [*facts, ("exact resume", "yes" if found.resumable else "modules only")]


def verify(
    path: Annotated[Path, typer.Argument(help="A checkpoint file, or a run's directory.", show_default=False)],
) -> None:
    """Verify every byte of a checkpoint, or of all checkpoints of a run; exit with 1 where there is damage."""
    out = console.output()
    damaged = total = 0
    for verdict in verify_files(path):
        total += 1
        damaged += verdict.problem is not None
        mark = ("damaged ", "bold red") if verdict.problem else ("good ", "green")
        out.print(
            Text.assemble(mark, shown(verdict.path, console.LONGEST), f": {verdict.problem}" if verdict.problem else "")
        )
    out.print(Text(f"{total - damaged} of {total} files are good"))
    if damaged:
        raise typer.Exit(1)
