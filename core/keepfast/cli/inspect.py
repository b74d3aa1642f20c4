"""``keepfast inspect``: what a checkpoint holds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from keepfast.cli import _console
from keepfast.inspection import Inspection
from keepfast.inspection import inspect as inspect_file


def inspect(path: Annotated[Path, typer.Argument(help="A checkpoint file of any format.", show_default=False)]) -> None:
    """Show what a checkpoint holds: modules, entries, shapes, dtypes, bytes, timestep, metric, versions."""
    found = inspect_file(path)
    console = _console.output()
    for label, value in _facts(found):
        console.print(Text.assemble((f"{label}: ", "bold"), value))
    table = Table("module", "entry", "what", "bytes", box=None, header_style="bold", pad_edge=False)
    table.columns[3].justify = "right"
    for module, entries in found.modules.items():
        for entry in entries:
            table.add_row(Text(module), Text(entry.path), Text(entry.what), f"{entry.bytes:,}" if entry.bytes else "")
    console.print(table)


def _facts(found: Inspection) -> list[tuple[str, str]]:
    metadata: Any = found.metadata
    facts = [("file", f"{found.path} ({found.size:,} bytes, {found.total:,} of them in arrays), undamaged")]
    if not metadata:
        return [*facts, ("written by", "another tool")]
    time = dt.datetime.fromtimestamp(metadata["time"], dt.UTC).astimezone()
    facts += [
        ("written by", f"keepfast {metadata['keepfast']}, backend {metadata['backend']}, {time:%Y-%m-%d %H:%M:%S %z}"),
        ("timestep", str(metadata.get("timestep", "not known"))),
    ]
    if "metric" in metadata:
        facts.append(("metric", f"{metadata['metric']['tag']} = {metadata['metric']['value']:g}"))
    return [*facts, ("exact resume", "yes" if found.resumable else "modules only")]
