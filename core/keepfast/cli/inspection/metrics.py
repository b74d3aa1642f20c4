"""``keepfast metrics``: what a run tracked, for other programs."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from keepfast._system.commit import commit
from keepfast.cli import console
from keepfast.codec import plain
from keepfast.errors import InvalidValue, MissingDependency, did_you_mean
from keepfast.metrics.frames import Metrics
from keepfast.metrics.reading import read_metrics

_HEADER = ("step", "wall_time", "tag", "value")


def metrics(
    run: Annotated[Path, typer.Argument(help="A run's directory, or a file of metrics.", show_default=False)],
    tag: Annotated[
        list[str] | None, typer.Option(help="Only this tag; may be given again.", show_default=False)
    ] = None,
    form: Annotated[Literal["csv", "json", "parquet"], typer.Option("--format", help="What to print.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="Write into this file instead.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file where it is there already.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Print every value a run tracked: a row of step, wall time, tag and value each, as csv, json or parquet."""
    if output is not None and output.exists() and not force:
        raise InvalidValue(f"`{output}` is there already; --force replaces it, or give another name")
    found = _chosen(read_metrics(run), tag)
    content = _MAKERS["json" if as_json else form](found, run)
    if output is not None:
        commit(output, lambda file: file.write(content))
        typer.echo(output)
    elif form == "parquet" and not as_json and sys.stdout.isatty():
        raise InvalidValue("parquet is nothing for a terminal; give --output FILE, or redirect stdout")
    else:
        sys.stdout.flush()
        typer.echo(content, nl=False)


def _chosen(found: Metrics, tags: list[str] | None) -> Metrics:
    for tag in tags or []:
        if tag not in found:
            raise InvalidValue(f"unknown tag `{tag}`{did_you_mean(tag, found)}")
    return Metrics({tag: found[tag] for tag in tags}) if tags else found


def _as_csv(found: Metrics, _: Path) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows((step, repr(wall_time), tag, repr(value)) for step, wall_time, tag, value in found.rows())
    return text.getvalue().encode("utf-8", "backslashreplace")


def _as_json(found: Metrics, run: Path) -> bytes:
    tags = {tag: {name: part.tolist() for name, part in series._asdict().items()} for tag, series in found.items()}
    document = {"kind": "series", "path": str(run), "tags": tags}
    return json.dumps(plain(document), allow_nan=False).encode() + b"\n"


def _as_parquet(found: Metrics, _: Path) -> bytes:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency(
            'parquet needs pyarrow, which is not installed; run: pip install "keepfast[data]"'
        ) from error
    rows = found.rows()
    table = pa.table({name: [row[place] for row in rows] for place, name in enumerate(_HEADER)})
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


_MAKERS = {"csv": _as_csv, "json": _as_json, "parquet": _as_parquet}
