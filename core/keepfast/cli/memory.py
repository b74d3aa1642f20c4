"""``keepfast memory``: what memory files hold, whether they are whole, and turning them into others."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from keepfast.cli import console
from keepfast.errors import InvalidValue, KeepfastError, MissingDependency, printable, shown
from keepfast.interfaces.memory_exporter import MemorySnapshot
from keepfast.memories.conversion import convert_memory, merge_memories
from keepfast.memories.files import MemoryDescription, Progress, inspect_memory, verify_memories
from keepfast.plugins.formats import format_of

app = typer.Typer(help="Inspect, convert, verify and merge memory files.", no_args_is_help=True, rich_markup_mode=None)

SEAMS = "seams"
"""The metadata that lists the samples whose next one does not follow them."""

_MOST_ITEMS = 8
"""How many items of a list are shown."""

_Verdicts = dict[Path, KeepfastError | OSError | None]

_Source = Annotated[Path, typer.Argument(help="A memory file of any format.", show_default=False)]
_Force = Annotated[bool, typer.Option("--force", help="Replace the file where it is there already.")]
_Target = Annotated[Path, typer.Argument(help="The file to write; its extension names the format.", show_default=False)]


@app.command()
def inspect(path: _Source, as_json: console.AsJson = False) -> None:
    """Show what a memory file holds: its size, its samples, the dtype and shape of each tensor."""
    found = inspect_memory(path)
    if as_json:
        console.print_json(_document_of(found))
        return
    out = console.output()
    for label, value in _facts(found):
        out.print(console.fact(label, value))
    table = console.table("tensor", "dtype", "shape of a sample")
    for name, (dtype, shape) in found.tensors.items():
        table.add_row(console.cell(name), console.cell(dtype), console.cell(str(shape)))
    out.print(table)


def _facts(found: MemoryDescription) -> Iterator[tuple[str, str]]:
    """Yield what there is to tell of a memory file, each with its label."""
    yield "file", f"{found.path} ({found.nbytes:,} bytes), undamaged"
    size = found.memory_size * found.num_envs
    yield "samples", f"{found.samples} of {size} ({found.memory_size} rows of {found.num_envs} environments)"
    yield "full", "yes" if found.filled else "no"
    for name, value in found.metadata.items():
        yield name, _in_short(name, value)


def _in_short(name: str, value: Any) -> str:
    """Return metadata in a line; a merged memory may have thousands of seams."""
    if name == SEAMS and isinstance(value, list):
        return f"{len(value)}, where no sequence goes from a sample to the next of its environment"
    if isinstance(value, list | tuple) and len(value) > _MOST_ITEMS:
        return f"{', '.join(map(str, value[:_MOST_ITEMS]))} and {len(value) - _MOST_ITEMS} more"
    return str(value)


def _document_of(found: MemoryDescription) -> dict[str, Any]:
    metadata = {name: len(value) if name == SEAMS else value for name, value in found.metadata.items()}
    return {
        "kind": "memory",
        "path": str(found.path),
        "size": found.nbytes,
        "memory_size": found.memory_size,
        "num_envs": found.num_envs,
        "samples": found.samples,
        "filled": found.filled,
        "tensors": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in found.tensors.items()},
        "metadata": metadata,
    }


@app.command()
def convert(source: _Source, target: _Target, force: _Force = False) -> None:
    """Write the content of a memory file into a file of another format."""
    _check_target(target, force)
    with _bar("converting") as progress:
        snapshot = convert_memory(source, target, progress)
    _tell_written(target, snapshot)


@app.command()
def merge(
    patterns: Annotated[
        list[str],
        typer.Argument(help="A quoted pattern, or a directory.", show_default=False, metavar="PATTERN"),
    ],
    target: _Target,
    force: _Force = False,
) -> None:
    """Write the samples of all memory files that match a pattern into one file, oldest first."""
    if len(patterns) > 1:
        raise InvalidValue(f"{len(patterns)} patterns were given; put the pattern in quotes: 'memory/*.pt'")
    _check_target(target, force)
    pattern = _pattern_of(patterns[0])
    with _bar("merging") as progress:
        snapshot = merge_memories(pattern, target, progress)
    _tell_written(target, snapshot)


def _check_target(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise InvalidValue(f"`{target}` is there already; --force replaces it, or give another name")


@app.command()
def verify(
    path: Annotated[str, typer.Argument(help="A memory file, a directory or a quoted pattern.", show_default=False)],
    as_json: console.AsJson = False,
) -> None:
    """Verify every byte of a memory file, or of all that match a pattern; exit with 1 where there is damage."""
    with _bar("verifying") as progress:
        verdicts = verify_memories(_pattern_of(path), progress)
    verdicts = _without_strangers(verdicts)
    damaged = sum(problem is not None for problem in verdicts.values())
    if as_json:
        files = [{"path": str(file), "problem": problem and str(problem)} for file, problem in verdicts.items()]
        console.print_json({"kind": "verification", "good": len(files) - damaged, "damaged": damaged, "files": files})
    else:
        _tell_verdicts(verdicts, damaged)
    if damaged:
        raise typer.Exit(1)


def _tell_verdicts(verdicts: _Verdicts, damaged: int) -> None:
    out = console.output()
    for file, problem in verdicts.items():
        mark = ("unread " if isinstance(problem, MissingDependency) else "damaged ", "bold red")
        mark = mark if problem else ("good ", "green")
        out.print(Text.assemble(mark, shown(file, console.LONGEST), f": {printable(str(problem))}" if problem else ""))
    out.print(Text(f"{len(verdicts) - damaged} of {len(verdicts)} files are good"))


def _without_strangers(verdicts: _Verdicts) -> _Verdicts:
    """Return the verdicts on memories, and warn of the files of no known format that lie between them.

    Raises:
        InvalidValue: if there are no others.
    """
    strangers = {path: problem for path, problem in verdicts.items() if isinstance(problem, InvalidValue)}
    if len(strangers) == len(verdicts):
        raise next(iter(strangers.values()))
    for problem in strangers.values():
        console.warn(f"passed over: {problem}")
    return {path: problem for path, problem in verdicts.items() if path not in strangers}


def _pattern_of(path: str) -> str:
    """Return a pattern for what was typed: for a file itself, for a directory all in it, or a pattern as it is."""
    if not Path(path).exists():
        return path
    return glob.escape(path) if _is_memory(Path(path)) else f"{glob.escape(path)}/*"


def _is_memory(path: Path) -> bool:
    """Say whether a path is one memory, which for some formats is a directory."""
    try:
        return path.is_file() or format_of("memory format", path) is not None
    except KeepfastError:
        return False


def _tell_written(target: Path, snapshot: MemorySnapshot) -> None:
    console.output().print(console.cell(f"{target}: {len(snapshot)} samples of {len(snapshot.tensors)} tensors"))


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    """Show how far something is on a terminal, and nothing in a log."""
    out = console.output()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
