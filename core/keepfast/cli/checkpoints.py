"""``keepfast index`` and ``verify``: the checkpoints of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import CHECKPOINTS, IndexedCheckpoint
from keepfast.checkpoints.scan import rebuild
from keepfast.checkpoints.segments import bytes_told, size_of_rows
from keepfast.checkpoints.verification import verify as verify_files
from keepfast.cli import console
from keepfast.errors import NotFound, printable, shown
from keepfast.plugins.locations import located


def index(
    path: Annotated[Path, typer.Argument(help="A run's directory, or its checkpoints.", show_default=False)],
    remake: Annotated[bool, typer.Option("--rebuild", help="Make index.json again from the files.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """List a run's checkpoints; with --rebuild, make the index again from the files themselves."""
    path = path if remake else located(path, metrics=False)
    directory = CheckpointDirectory(path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path)
    if remake and directory.path.is_dir():
        _, damaged = rebuild(directory.path)
        for reason in damaged.values():
            console.warn(f"left out of the index: {reason}")
    checkpoints = directory.checkpoints()
    if not checkpoints:
        raise NotFound(f"there are no checkpoints at `{path}`")
    show_table(directory.path, checkpoints, as_json=as_json)


def show_table(directory: Path, checkpoints: list[IndexedCheckpoint], *, as_json: bool) -> None:
    """Print what there is to tell of checkpoints."""
    if as_json:
        console.print_json(
            {"kind": "checkpoints", "checkpoints": [document_of(directory, each) for each in checkpoints]}
        )
    else:
        console.output().print(table(directory, checkpoints))


def document_of(directory: Path, checkpoint: IndexedCheckpoint) -> dict[str, Any]:
    """Return what there is to tell of a checkpoint, as a document."""
    return {
        "timestep": checkpoint.timestep,
        "best": checkpoint.best,
        "modules": list(checkpoint.modules),
        "metric": checkpoint.metric,
        "time": checkpoint.time or None,
        "superseded": checkpoint.superseded,
        "segments": list(checkpoint.segments),
        "segment_bytes": size_of_rows(directory, checkpoint),
        "files": {
            key: {"name": file.name, "size": file.size, "digest": file.digest} for key, file in checkpoint.files.items()
        },
    }


def table(directory: Path, checkpoints: list[IndexedCheckpoint]) -> Table:
    """Return a table with a row for each checkpoint."""
    made = console.table("timestep", "files", "modules", "metric", "bytes", "digest", right=("bytes",))
    for checkpoint in checkpoints:
        made.add_row(*map(console.cell, _row(directory, checkpoint)))
    return made


def _row(directory: Path, checkpoint: IndexedCheckpoint) -> tuple[str, ...]:
    metric = "" if checkpoint.metric is None else f"{checkpoint.metric['tag']} = {checkpoint.metric['value']:g}"
    return (
        "" if checkpoint.timestep is None else str(checkpoint.timestep),
        ", ".join(sorted(checkpoint.names))
        + (f" + {count} segment{'s' * (count > 1)}" if (count := len(checkpoint.segments)) else ""),
        ", ".join(checkpoint.modules),
        metric,
        bytes_told(directory, checkpoint),
        ", ".join(file.digest for _, file in sorted(checkpoint.files.items()) if file.digest),
    )


def verify(
    path: Annotated[Path, typer.Argument(help="A checkpoint file, or a run's directory.", show_default=False)],
    as_json: console.AsJson = False,
) -> None:
    """Verify every byte of a checkpoint, or of all checkpoints of a run; exit with 1 where there is damage."""
    verdicts = []
    for verdict in verify_files(path):
        verdicts.append(verdict)
        if not as_json:
            mark = ("damaged ", "bold red") if verdict.problem else ("good ", "green")
            problem = f": {printable(verdict.problem)}" if verdict.problem else ""
            console.output().print(Text.assemble(mark, shown(verdict.path, console.LONGEST), problem))
    damaged = sum(verdict.problem is not None for verdict in verdicts)
    if as_json:
        files = [{"path": str(verdict.path), "problem": verdict.problem} for verdict in verdicts]
        console.print_json({"kind": "verification", "good": len(files) - damaged, "damaged": damaged, "files": files})
    else:
        console.output().print(Text(f"{len(verdicts) - damaged} of {len(verdicts)} files are good"))
    if damaged:
        raise typer.Exit(1)
