"""``keepfast tag``: gives a run a name and tags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keepfast.cli import console
from keepfast.plugins.locations import writable
from keepfast.runs.listing.tagging import write_label
from keepfast.runs.reading import read_run


def tag(
    run: Annotated[Path, typer.Argument(help="A run's directory.", show_default=False)],
    tags: Annotated[list[str] | None, typer.Argument(help="Tags to add.", show_default=False)] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take away; may be given again.")] = None,
    name: Annotated[str | None, typer.Option(help='Call the run this; "" takes its name away.')] = None,
    as_json: console.AsJson = False,
) -> None:
    """Name a run and tag it, or say what it is called: `keepfast runs --where tag=baseline` finds it by that."""
    known = read_run(writable(run)).label
    label = known.changed(name, tags or (), remove or ())
    if label != known:
        write_label(run, label)
    if as_json:
        console.print_json({"kind": "label", "path": str(run), "name": label.name, "tags": list(label.tags)})
        return
    out = console.output()
    out.print(console.fact("name", label.name or "none"))
    out.print(console.fact("tags", ", ".join(label.tags) or "none"))
