"""Where the commands print: tables and progress to stdout, errors and warnings to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keepfast.codec import plain
from keepfast.errors import KeepfastError, printable, shown

_WIDE = 500
"""Columns where stdout is no terminal: whoever reads a file or a pipe wants whole lines."""

LONGEST = 1000
"""How many characters of a text are shown."""


def output() -> Console:
    """Return a console on stdout, as wide as the terminal, or so wide that nothing is wrapped where there is none."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False)


AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON document in the place of a table.")]
"""The option of every command that lists or shows something."""


def table(*columns: str, right: Collection[str] = ()) -> Table:
    """Return a table whose cells are folded, never cut, where the terminal is narrow.

    Args:
        columns: the headers.
        right: those of them whose cells are numbers.
    """
    made = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for name, column in zip(columns, made.columns, strict=True):
        column.overflow = "fold"
        column.justify = "right" if name in right else "left"
    return made


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> None:
    """Print a table of text, of any number of rows; where it is wider than the terminal, its cells are folded.

    Args:
        columns: the headers.
        rows: the cells of each row, which a file may have told.
        right: those of the headers whose cells are numbers.
    """
    out = output()
    cells = [[shown(cell, LONGEST) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) > out.width:
        made = table(*columns, right=right)
        for row in cells:
            made.add_row(*map(Text, row))
        out.print(made)
        return
    out.print(Text(_line(columns, columns, widths, right), style="bold"), soft_wrap=True)
    sys.stdout.writelines(f"{_line(row, columns, widths, right)}\n" for row in cells)  # a thousand times as fast


def _line(cells: Sequence[str], columns: Sequence[str], widths: Sequence[int], right: Collection[str]) -> str:
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        space = " " * (width - cell_len(cell))
        parts.append(space + cell if column in right else cell + space)
    return "  ".join(parts).rstrip()


def print_text(text: str) -> None:
    """Print text of several lines that a file may have told."""
    sys.stdout.write(printable(text).rstrip("\n") + "\n")


def print_json(document: Any) -> None:
    """Print a document as strict JSON: what is not finite is the text "NaN", "Infinity" or "-Infinity"."""
    typer.echo(json.dumps(plain(document), indent=2, allow_nan=False))


def cell(text: object) -> Text:
    """Return text that a file may have told, as it is shown to people."""
    return Text(shown(text, LONGEST))


def fact(label: str, text: object) -> Text:
    """Return something that is known, behind its label."""
    return Text.assemble((f"{shown(label)}: ", "bold"), cell(text))


def take_every_character() -> None:
    """Have stdout and stderr spell out what their encoding lacks, as the names of runs and tags may hold anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def cause_of(error: Exception) -> str:
    """Return what an error says, without the number that the operating system gives it."""
    if isinstance(error, KeepfastError) or not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    return error.strerror if error.filename is None else f"{error.strerror}: `{os.fspath(error.filename)}`"


def fail(message: str) -> None:
    """Print an error to stderr."""
    _tell("error", "bold red", message)


def warn(message: str) -> None:
    """Print a warning to stderr."""
    _tell("warning", "yellow", message)


def warn_unreadable(run: Path, error: Exception) -> None:
    """Print to stderr that a run is passed over because of what happened when it was read."""
    warn(f"the run at `{run}` cannot be read and was passed over: {cause_of(error)}")


def _tell(label: str, style: str, message: str) -> None:
    console = Console(stderr=True, highlight=False, markup=False)
    console.print(Text.assemble((f"{label}: ", style), printable(message)), soft_wrap=True)
