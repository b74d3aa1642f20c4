"""Shows rows: as a table in the terminal, in Markdown, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.measure import AtLeast, Row

COLUMNS = ("what", "against", "ours", "peer's", "ratio", "promised", "kept")
MARKS = ("<!-- measured -->", "<!-- end of measured -->")
"""What stands around the table in a Markdown file."""

PACKAGES = (
    "keepfast",
    "numpy",
    "torch",
    "jax",
    "flax",
    "orbax-checkpoint",
    "skrl",
    "tensorboard",
    "tensorboardX",
    "torchrl",
)


def table(results: Mapping[str, Sequence[Row]]) -> Table:
    """Return the rows of all benchmarks as a table for the terminal."""
    made = Table(title="Keepfast beside its peers")
    for column in COLUMNS:
        made.add_column(column, justify="left" if column in ("what", "against", "promised", "kept") else "right")
    for rows in results.values():
        for row in rows:
            style = {True: "green", False: "bold red", None: "dim"}[row.kept]
            made.add_row(*cells(row), style=style)
        made.add_section()
    return made


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's texts, one for each of `COLUMNS`."""
    return (
        row.what,
        row.against,
        _amount(row.ours, row),
        _amount(row.theirs, row),
        _ratio(row),
        "" if row.limit is None else str(row.limit),
        _verdict(row),
    )


def _amount(value: float, row: Row) -> str:
    if row.unit == "B":
        return f"{value / 1e6:.1f} MB"
    if row.nbytes is not None:
        return f"{row.nbytes / value / 1e6:,.0f} MB/s"
    scale, unit = next(pair for pair in ((1, "s"), (1e3, "ms"), (1e6, "us")) if value * pair[0] >= 1 or pair[1] == "us")
    return f"{value * scale:.3g} {unit}"


def _ratio(row: Row) -> str:
    faster = isinstance(row.limit, AtLeast) or (row.limit is None and row.ours <= row.theirs)
    return f"{row.theirs / row.ours:.2f}x faster" if faster else f"{row.ours / row.theirs:.2f}x"


def _verdict(row: Row) -> str:
    if row.excess is None:
        return ""
    return "kept" if row.kept else f"missed by {row.excess:.0%}"


def write_json(results: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Write every row with what decides on it, and the machine it was measured on."""
    rows = [{"benchmark": name, **_document(row)} for name, found in results.items() for row in found]
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


def _document(row: Row) -> dict[str, Any]:
    return {
        "what": row.what,
        "against": row.against,
        "ours": row.ours,
        "theirs": row.theirs,
        "unit": row.unit,
        "nbytes": row.nbytes,
        "ratio": row.theirs / row.ours,
        "promised": None if row.limit is None else str(row.limit),
        "kept": row.kept,
        "excess": row.excess,
    }


def machine() -> dict[str, Any]:
    """Describe the machine and the versions of what was measured."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processors": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def write_markdown(results: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Put the rows in the place of the table that stands between the marks in a Markdown file.

    Raises:
        ValueError: if the file does not hold both marks.
    """
    before, start, rest = path.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (start and end):
        raise ValueError(f"`{path}` does not hold {MARKS[0]} and {MARKS[1]}, between which the table goes")
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(cells(row) for rows in results.values() for row in rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    about = machine()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    head = f"{about['processors']} processors, Python {about['python']}, {versions}."
    path.write_text(f"{before}{start}\n{head}\n\n{text}\n{end}{after}")
