"""``keepfast index``: what a run's checkpoint directory holds, and making its index again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from keepfast.checkpoint_directory import CheckpointDirectory
from keepfast.checkpoint_index import IndexedCheckpoint
from keepfast.checkpoint_scan import rebuild
from keepfast.cli import _console
from keepfast.errors import NotFound
from keepfast.run_directory import CHECKPOINTS


def index(
    path: Annotated[Path, typer.Argument(help="A run's directory, or its checkpoints.", show_default=False)],
    remake: Annotated[bool, typer.Option("--rebuild", help="Make index.json again from the files.")] = False,
) -> None:
    """List a run's checkpoints; with --rebuild, make the index again from the files themselves."""
    directory = CheckpointDirectory(path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path)
    if remake and directory.path.is_dir():
        _, damaged = rebuild(directory.path)
        for reason in damaged.values():
            _console.warn(f"left out of the index: {reason}")
    checkpoints = directory.checkpoints()
    if not checkpoints:
        raise NotFound(f"there are no checkpoints at `{path}`")
    _console.output().print(table(checkpoints))


def table(checkpoints: list[IndexedCheckpoint]) -> Table:
    """Return a table with a row for each checkpoint."""
    made = Table("timestep", "files", "modules", "metric", "bytes", box=None, header_style="bold", pad_edge=False)
    made.columns[4].justify = "right"
    for checkpoint in checkpoints:
        made.add_row(*map(Text, _row(checkpoint)))
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
