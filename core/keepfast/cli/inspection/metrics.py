"""``keepfast metrics``: what a run tracked, for other programs, and what agents are to track."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from keepfast._system.commit import commit
from keepfast._system.remote.addresses import address_of, as_address
from keepfast.cli import console
from keepfast.cli.inspection.expected import expected
from keepfast.codec import plain
from keepfast.errors import InvalidValue, MissingDependency, did_you_mean
from keepfast.metrics.frames import Metrics
from keepfast.metrics.reading import read_metrics

_HEADER = ("step", "wall_time", "tag", "value")


def metrics(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|AGENT]",
            help="A run's directory, or a file of metrics; or an agent, for the tags it tracks.",
            show_default=False,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only this tag; may be given again.", show_default=False)
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Compare a run with the agent; 1 if a tag is missing.", show_default=False),
    ] = None,
    form: Annotated[
        Literal["csv", "json", "parquet", "markdown"], typer.Option("--format", help="What to print.")
    ] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write into this file instead.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file where it is there already.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Print every value a run tracked, as csv, json or parquet; or what agents are to track."""
    if output is not None and output.exists() and not force:
        raise InvalidValue(f"`{output}` is there already; --force replaces it, or give another name")
    if check is not None or what is None or not (Path(what).exists() or address_of(what)):
        told = expected(what, check, "json" if as_json else form)
        _emit(told.encode(), output)
        return
    if form == "markdown" and not as_json:
        raise InvalidValue("the values of a run are printed as csv, json or parquet; markdown is for what agents track")
    run = Path(what)
    found = _chosen(read_metrics(run), tag)
    if form == "parquet" and output is None and not as_json and sys.stdout.isatty():
        raise InvalidValue("parquet is nothing for a terminal; give --output FILE, or redirect stdout")
    _emit(_MAKERS["json" if as_json else form](found, run), output)


def _emit(content: bytes, output: Path | None) -> None:
    if output is not None:
        commit(output, lambda file: file.write(content))
        typer.echo(output)
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
    document = {"kind": "series", "path": as_address(run), "tags": tags}
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
