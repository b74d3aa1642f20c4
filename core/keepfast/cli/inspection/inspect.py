"""``keepfast inspect``: what a file or a directory holds, whichever of Keepfast's it is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keepfast.checkpoints.directory import CheckpointDirectory
from keepfast.checkpoints.index import INDEX
from keepfast.checkpoints.inspection import Inspection, describe
from keepfast.cli import checkpoints, console, memory
from keepfast.cli.inspection.kinds import Kind, kind_of, read_any_checkpoint
from keepfast.cli.runs.listing import runs
from keepfast.cli.runs.showing import show
from keepfast.codec import plain
from keepfast.errors import InvalidValue
from keepfast.metrics.reading import read_metrics
from keepfast.plugins.locations import located
from keepfast.runs.directory import LONGEST_PATHS
from keepfast.tree import require_short_paths


def inspect(
    path: Annotated[
        Path, typer.Argument(help="A checkpoint, a memory, a file of metrics, or a directory.", show_default=False)
    ],
    as_json: console.AsJson = False,
) -> None:
    """Show what a file holds, a checkpoint or memory of any format above all: entries, shapes, dtypes, bytes."""
    path = located(path)
    _SHOW[kind_of(path)](path, as_json)


def _show_checkpoint(path: Path, as_json: bool) -> None:
    found = describe(path, read_any_checkpoint(path))
    if as_json:
        console.print_json(_document_of(found))
        return
    for label, value in _facts(found):
        console.output().print(console.fact(label, value))
    table = console.table("module", "entry", "what", "bytes", right=("bytes",))
    for module, entries in found.modules.items():
        for entry in entries:
            table.add_row(
                console.cell(module),
                console.cell(entry.path),
                console.cell(entry.what),
                f"{entry.bytes:,}" if entry.bytes else "",
            )
    console.output().print(table)


def _document_of(found: Inspection) -> dict[str, Any]:
    about = found.metadata
    return {
        "kind": "checkpoint",
        "path": str(found.path),
        "size": found.size,
        "segments": dict(found.segments),
        "array_bytes": found.total,
        "written_by": about.keepfast,
        "backend": about.backend,
        "time": about.time,
        "timestep": about.timestep,
        "metric": about.metric,
        "resumable": found.resumable,
        "modules": {
            module: [{"entry": entry.path, "what": entry.what, "bytes": entry.bytes} for entry in entries]
            for module, entries in found.modules.items()
        },
    }


def _facts(found: Inspection) -> list[tuple[str, str]]:
    metadata = found.metadata
    facts = [("file", f"{found.path} ({found.size:,} bytes, {found.total:,} of them in arrays), undamaged")]
    if not metadata.written_by_keepfast:
        return [*facts, ("written by", "another tool")]
    facts += [
        ("written by", f"keepfast {metadata.keepfast}, backend {metadata.backend}, {_moment(metadata.time)}"),
        ("timestep", "not known" if metadata.timestep is None else str(metadata.timestep)),
    ]
    if found.segments:
        folders = ", ".join(sorted({name.partition("/")[0] for name in found.segments}))
        total = sum(found.segments.values())
        facts.append(("rows of memories", f"{len(found.segments)} segments in {folders} ({total:,} bytes)"))
    if metadata.metric is not None:
        facts.append(("metric", f"{metadata.metric['tag']} = {metadata.metric['value']:g}"))
    return [*facts, ("exact resume", "yes" if found.resumable else "modules only")]


def _moment(time: float | None) -> str:
    """Return a time of a file; it may be none, or one that no calendar has."""
    try:
        return f"{dt.datetime.fromtimestamp(time or 0.0, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S %z}"
    except (OverflowError, ValueError, OSError):
        return "at no known time"


def _show_metrics(path: Path, as_json: bool) -> None:
    found = read_metrics(path)
    if as_json:
        tags = {
            tag: {
                "values": len(series.steps),
                "first_step": int(series.steps[0]),
                "last_step": int(series.steps[-1]),
                "last_value": float(series.values[-1]),
            }
            for tag, series in found.items()
        }
        console.print_json({"kind": "metrics", "path": str(path), "tags": tags})
        return
    table = console.table("tag", "values", "steps", "last value", right=("values", "steps", "last value"))
    for tag, series in found.items():
        steps = f"{series.steps[0]} to {series.steps[-1]}"
        table.add_row(console.cell(tag), str(len(series.steps)), steps, f"{series.values[-1]:.6g}")
    console.output().print(table)


def _show_document(path: Path, as_json: bool) -> None:
    if path.name == INDEX:
        _show_checkpoints(path.parent, as_json)
        return
    document = json.loads(path.read_bytes())
    if as_json:
        console.print_json({"kind": "document", "path": str(path), "content": document})
        return
    try:
        require_short_paths(document, LONGEST_PATHS)
    except ValueError:
        raise InvalidValue(
            f"`{path}` has objects in each other that are too many for a table; --json shows it"
        ) from None
    for label, value in _leaves(document):
        console.output().print(console.fact(label, value))


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        return [(path, f"{len(value)} entries; --json shows them")]
    if not isinstance(value, Mapping) or not value:
        return [(path, str(plain(value)))]
    return [leaf for key, child in value.items() for leaf in _leaves(child, f"{path}.{key}" if path else str(key))]


def _show_checkpoints(path: Path, as_json: bool) -> None:
    checkpoints.show_table(path, CheckpointDirectory(path).checkpoints(), as_json=as_json)


_SHOW: Mapping[Kind, Callable[[Path, bool], None]] = {
    "checkpoint": _show_checkpoint,
    "memory": lambda path, as_json: memory.inspect(path, as_json),
    "metrics": _show_metrics,
    "document": _show_document,
    "run": lambda path, as_json: show(path, as_json),
    "runs": lambda path, as_json: runs(path, as_json),
    "checkpoints": _show_checkpoints,
}
