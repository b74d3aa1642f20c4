"""``keepfast verify``: whether files are as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from keepfast.cli import _console
from keepfast.verification import verify as verify_files


def verify(
    path: Annotated[Path, typer.Argument(help="A checkpoint file, or a run's directory.", show_default=False)],
) -> None:
    """Verify every byte of a checkpoint, or of all checkpoints of a run; exit with 1 where there is damage."""
    console = _console.output()
    damaged = total = 0
    for verdict in verify_files(path):
        total += 1
        damaged += verdict.problem is not None
        mark = ("damaged ", "bold red") if verdict.problem else ("good ", "green")
        console.print(Text.assemble(mark, str(verdict.path), f": {verdict.problem}" if verdict.problem else ""))
    console.print(Text(f"{total - damaged} of {total} files are good"))
    if damaged:
        raise typer.Exit(1)
