"""``keepfast migrate`` and ``convert``: checkpoints from elsewhere, and checkpoints as something else."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from keepfast.cli import console
from keepfast.errors import InvalidValue, LoadMismatch, NotFound, UsageError

if TYPE_CHECKING:
    from keepfast.migration.report import MigrationReport

LEGEND = {
    "migrated": "has a new value",
    "kept": "has its own value: no file of the other side has such a thing",
    "missing": "nothing in the file fits",
    "ambiguous": "several entries of the file fit: a line of --map settles it",
    "refused": "what fits has no place",
    "left": "gets no state: the file has none that belongs to these values",
    "unused": "of the file, and goes nowhere",
}
"""What each word of the table means."""

_STYLES = {"missing": "bold red", "ambiguous": "bold red", "refused": "bold red", "migrated": "green"}


def migrate(
    source: Annotated[str, typer.Argument(help="A checkpoint of another library or framework.", show_default=False)],
    checkpoint: Annotated[str, typer.Argument(help="The checkpoint whose modules get them.", show_default=False)],
    map_file: Annotated[
        Path | None, typer.Option("--map", help="A JSON or TOML file: own name -> name in the source, by module.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here, and leave the checkpoint alone.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the checkpoint, or what is at --output.")] = False,
    as_json: console.AsJson = False,
) -> None:
    """Migrate a checkpoint into the modules of another, and show what came from where."""
    from keepfast.migration.engine import MigrationOptions
    from keepfast.migration.files.converting import migrate_file

    written = output or Path(checkpoint)
    if not dry_run:
        _require_place(written, checkpoint if output is None else "", force=force)
    names = {} if map_file is None else _names(map_file)
    shown = migrate_file(source, checkpoint, MigrationOptions(names, dry_run=True, quiet=True))
    if as_json:
        console.print_json(_document(shown))
    else:
        _show(shown)
    if not shown and not dry_run:
        lines = [*shown.hints, *(f"{name}: nothing in the file fits" for name in shown.missing)]
        raise LoadMismatch("the mapping is not complete, and nothing was written:\n" + "\n".join(lines))
    if not dry_run:
        migrate_file(source, checkpoint, MigrationOptions(names), output)
        console.output().print(Text(f"written to {written}")) if not as_json else None
    elif not shown:
        raise typer.Exit(1)


def _require_place(path: Path, checkpoint: str, *, force: bool) -> None:
    """Check that a file may be written.

    Raises:
        UsageError: if it is there and is not to be replaced, or is on the Hub.
    """
    if "://" in checkpoint:
        raise UsageError(f"`{checkpoint}` is on the Hub; say where to write, `--output FILE`")
    if path.exists() and not force:
        raise UsageError(
            f"`{path}` is there already; write elsewhere (`--output FILE`), replace it (`--force`), or only look "
            "(`--dry-run`)"
        )


def _names(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise NotFound(f"there is no file `{path}` with a map") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidValue(f"`{path}` is no map in JSON or TOML ({error})") from error
    if not isinstance(found, dict):
        raise InvalidValue(f"`{path}` holds a {type(found).__name__}; allowed: a mapping from own names to the file's")
    return found


def _show(report: MigrationReport) -> None:
    out = console.output()
    out.print(Text(f"reader {report.reader} {report.reader_version}, library {report.library or 'not known'}"))
    table = console.table("entry", "shape", "status", "from", "why")
    for entry in report.entries:
        status = Text(entry.status, style=_STYLES.get(entry.status, ""))
        table.add_row(Text(entry.name), Text(str(entry.shape)), status, Text(", ".join(entry.sources)), Text(entry.why))
    for name in report.unused:
        table.add_row(Text(""), Text(""), Text("unused"), Text(name), Text(""))
    for optimizer in report.optimizers:
        status = Text(optimizer.status, style=_STYLES.get(optimizer.status, ""))
        kind = optimizer.kind if optimizer.steps is None else f"{optimizer.kind}, {optimizer.steps} steps"
        source = optimizer.name if optimizer.status == "unused" else ", ".join(optimizer.sources)
        name = "" if optimizer.status == "unused" else optimizer.name
        table.add_row(Text(name), Text("optimizer"), status, Text(source), Text(optimizer.why or kind))
    out.print(table)
    used = {entry.status for entry in report.entries} | {optimizer.status for optimizer in report.optimizers}
    used |= {"unused"} if report.unused else set()
    for word, meaning in LEGEND.items():
        if word in used:
            out.print(Text(f"{word}: {meaning}"))
    for line in [*report.hints, *(f"note: {note}" for note in report.notes)]:
        out.print(Text(line))
    for line in report.warnings:
        console.warn(line)


def _document(report: MigrationReport) -> dict[str, Any]:
    entries = [
        {
            "name": entry.name,
            "shape": list(entry.shape),
            "status": entry.status,
            "sources": list(entry.sources),
            "kind": entry.kind,
            "why": entry.why,
        }
        for entry in report.entries
    ]
    return {
        "kind": "migration",
        "complete": bool(report),
        "reader": report.reader,
        "reader_version": report.reader_version,
        "library": report.library,
        "entries": entries,
        "unused": list(report.unused),
        "optimizers": [asdict(optimizer) for optimizer in report.optimizers],
        "hints": list(report.hints),
        "notes": list(report.notes),
        "warnings": list(report.warnings),
    }


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint of any format or library.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The file; its extension names the format.", show_default=False)],
    to: Annotated[Literal["torch", "jax"] | None, typer.Option(help="Lay the networks out for a framework.")] = None,
    like: Annotated[str | None, typer.Option(help="A checkpoint with the names and layouts to use.")] = None,
    modules: Annotated[list[str] | None, typer.Option(help="Only this module; may be given several times.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file where it is there already.")] = False,
) -> None:
    """Convert a checkpoint into another format, into the other framework, or into a part of it."""
    from keepfast.migration.files.converting import convert_file

    chosen = [name for given in modules or [] for name in given.split(",")] or None
    for note in convert_file(source, target, to, like, chosen, replace_file=force):
        console.warn(note)
    console.output().print(Text(f"{source} -> {target}"))
