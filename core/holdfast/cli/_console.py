"""Where the commands print: tables and progress to stdout, errors and warnings to stderr."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

WIDE = 500
"""Columns where stdout is no terminal: whoever reads a file or a pipe wants whole lines."""


def output() -> Console:
    """Return a console on stdout, as wide as the terminal, or so wide that nothing is wrapped where there is none."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False)


def fail(message: str) -> None:
    """Print an error to stderr."""
    _tell("error", "bold red", message)


def warn(message: str) -> None:
    """Print a warning to stderr."""
    _tell("warning", "yellow", message)


def _tell(label: str, style: str, message: str) -> None:
    console = Console(stderr=True, highlight=False, markup=False)
    console.print(Text.assemble((f"{label}: ", style), message), soft_wrap=True)
