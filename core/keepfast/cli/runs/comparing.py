"""``keepfast diff``: how two runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keepfast._system.remote.addresses import as_address
from keepfast.cli import console
from keepfast.runs.listing.comparing import PARTS, compare
from keepfast.runs.reading import read_run


def diff(
    run: Annotated[Path, typer.Argument(help="A run's directory.", show_default=False)],
    other: Annotated[Path, typer.Argument(help="Another's.", show_default=False)],
    as_json: console.AsJson = False,
) -> None:
    """Show how two runs differ: in their settings, where they come from, and their last metrics."""
    found = compare(read_run(run), read_run(other))
    if as_json:
        parts = {part: {key: list(pair) for key, pair in found[part].items()} for part in PARTS}
        console.print_json({"kind": "difference", "runs": [as_address(run), as_address(other)], **parts})
        return
    out = console.output()
    for part in PARTS:
        if not found[part]:
            out.print(console.fact(part, "no difference"))
            continue
        table = console.table(part, as_address(run), as_address(other))
        for key, pair in found[part].items():
            table.add_row(*map(console.cell, (key, *("" if each is None else each for each in pair))))
        out.print(table)
