"""ConsoleWriter: the latest values, where they can be watched."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import IO, final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

import keepfast
from keepfast._system.notebook.live import Live as CellLive
from keepfast._system.notebook.live import in_notebook
from keepfast._system.notebook.tables import facts, table


@final
class ConsoleWriter(keepfast.Writer):
    """Shows the latest value of every tag: a live table on a terminal or in a notebook's cell, else a line a write.

    Args:
        context: the experiment.
        file: where to; standard error by default, so that it does not mix with what the program prints.
    """

    def __init__(self, context: keepfast.WriterContext, file: IO[str] | None = None) -> None:
        self._name = context.experiment_name
        self._latest: dict[str, tuple[int, float]] = {}
        self._console = Console(file=file, stderr=file is None, highlight=False)
        self._cell = CellLive(self._page(0)) if file is None and in_notebook() else None
        self._live = self._table_on_terminal() if self._cell is None and self._console.is_terminal else None
        if self._live is not None:
            self._live.start()

    def _table_on_terminal(self) -> Live:
        # What the program prints is put above the table, but only what goes to the table's own terminal.
        stdout, stderr = (_same_terminal(stream, self._console.file) for stream in (sys.stdout, sys.stderr))
        return Live(console=self._console, auto_refresh=False, redirect_stdout=stdout, redirect_stderr=stderr)

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Show the values."""
        self._latest.update({tag: (step, value) for tag, value in scalars.items()})
        if self._cell is not None:
            self._cell.show(self._page(step))
            return
        if self._live is None:
            values = "  ".join(f"{tag}={value:.6g}" for tag, value in scalars.items())
            self._console.print(Text(f"step {step}  {values}"), soft_wrap=True)
            return
        self._live.update(self._table(step), refresh=True)

    def _table(self, step: int) -> Table:
        table = Table(title=Text(f"{self._name}  step {step}"), box=None, pad_edge=False)
        table.add_column("tag")
        table.add_column("value", justify="right")
        table.add_column("step", justify="right", style="dim")
        for tag, (at, value) in sorted(self._latest.items()):
            table.add_row(Text(tag), f"{value:.6g}", "" if at == step else str(at))
        return table

    def _page(self, step: int) -> str:
        rows = ((tag, f"{value:.6g}", "" if at == step else at) for tag, (at, value) in sorted(self._latest.items()))
        return facts(f"{self._name}  step {step}", ()) + table(("tag", "value", "step"), rows)

    def write_text(self, tag: str, text: str, step: int, wall_time: float) -> None:
        """Print the text, above the table."""
        self._console.print(Text(f"step {step}  {tag}: {text}"), soft_wrap=True)

    def flush(self) -> None:
        """Return when what was shown has left the process."""
        self._console.file.flush()

    def close(self) -> None:
        """Leave the last table standing."""
        if self._live is not None:
            self._live.stop()
        self.flush()


def _same_terminal(one: IO[str] | None, other: IO[str]) -> bool:
    """Say whether two streams lead to one terminal, and not one of them to a file or a pipe."""
    try:
        return (
            one is not None
            and one.isatty()
            and other.isatty()
            and os.fstat(one.fileno()).st_rdev == os.fstat(other.fileno()).st_rdev
        )
    except (OSError, ValueError, AttributeError):  # a stream of the program's own, or one that was closed
        return False
