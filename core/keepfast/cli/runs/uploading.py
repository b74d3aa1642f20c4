"""``keepfast upload``: what lies in the spool of this machine and was never uploaded."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from keepfast._system.remote.spool import spool
from keepfast.cli import console
from keepfast.errors import KeepfastError, printable
from keepfast.runs.uploading.leftovers import leftovers


def upload(
    list_only: Annotated[bool, typer.Option("--list", help="List what there is, and upload nothing.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Upload what runs on object stores left in the spool, of which each is told at its end; exit with 1 if it fails.

    KEEPFAST_SPOOL names the spool. Runs that are under way are left to themselves.
    """
    rows: list[dict[str, Any]] = []
    for each in leftovers():
        problem = None
        try:
            if not list_only and not each.upload():
                problem = "it is not wholly uploaded"
        except (KeepfastError, OSError) as error:
            problem = printable(str(error))
        rows.append({"address": str(each.address), "directory": str(each.directory), "problem": problem})
    if as_json:
        console.print_json({"kind": "uploads", "spool": str(spool()), "runs": rows})
    elif rows:
        cells = [[row[name] or "" for name in ("address", "directory", "problem")] for row in rows]
        console.print_rows(("run", "lies in", "problem"), cells)
    else:
        console.output().print(Text("nothing is left to upload"))
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)
