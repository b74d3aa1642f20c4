"""``keepfast runs``, ``show`` and ``plot``: the runs of a directory, what one holds, and curves of several."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from keepfast.cli import console
from keepfast.cli.checkpoints import document_of as checkpoint_document
from keepfast.cli.checkpoints import table as checkpoint_table
from keepfast.cli.inspection.choosing import chosen
from keepfast.errors import InvalidValue, NotFound, did_you_mean, shown
from keepfast.metrics.frames import Series
from keepfast.metrics.reading import has_metrics, read_metrics
from keepfast.metrics.spread import Curve, Spread, curve_of, spread_of, spread_of_seeds
from keepfast.pictures.figure import check_output, write_figure
from keepfast.pictures.picture import Picture, drawn, legend
from keepfast.runs.directory import DEFAULT_DIRECTORY
from keepfast.runs.loops.seeds import SEEDS, STANDARD_ERROR
from keepfast.runs.reading import Run, find_runs, is_run, read_run

_COLUMNS = ("run", "agent", "steps", "best score", "age", "size")

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def runs(
    directory: Annotated[Path, typer.Argument(help="The directory that the runs lie in.")] = Path(DEFAULT_DIRECTORY),
    as_json: console.AsJson = False,
    where: Annotated[
        list[str] | None, typer.Option(help='Only runs that meet this: "lr=3e-4", "best>100"; may be given again.')
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Sort by this: best, steps, a setting or a tag.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort the other way round.")] = False,
) -> None:
    """List the runs of a directory: agent, steps, best score, size, and for how long nothing was written.

    A run that cannot be read is passed over with a warning.
    """
    found = chosen(_read(find_runs(directory)), where or [], sort, reverse=reverse)
    if as_json:
        console.print_json({"kind": "runs", "runs": [_document_of(run) for run in found]})
        return
    table = console.table(*_COLUMNS, right=_COLUMNS[2:])
    now = time.time()
    for run in found:
        table.add_row(*map(console.cell, _row(run, directory, now)))
    console.output().print(table)


def _read(paths: Iterable[Path]) -> Iterator[Run]:
    """Yield what runs hold; one that cannot be read is passed over with a warning."""
    for path in paths:
        try:
            yield read_run(path)
        except OSError as error:
            console.warn_unreadable(path, error)


def _document_of(run: Run) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "name": run.path.name,
        "agent": run.agent,
        "steps": run.steps,
        "timesteps": run.timesteps,
        "best_metric": run.best_metric,
        "best_score": run.best_score,
        "changed": run.changed,
        "size": run.size,
        "settings": dict(run.settings),
    }


def _row(run: Run, directory: Path, now: float) -> tuple[str, str, str, str, str, str]:
    """Return the cells of a run: its path below the directory, and what there is to tell of it."""
    name = run.path.name if run.path == directory else str(run.path.relative_to(directory))
    return name, run.agent or "", _progress(run), _number(run.best_score), ago(now - run.changed), decimal(run.size)


def _progress(run: Run) -> str:
    """Return the completed timesteps, and out of how many where that is known."""
    steps = "" if run.steps is None else str(run.steps)
    return f"{steps or 0}/{run.timesteps}" if run.timesteps else steps


def _number(value: float | None) -> str:
    """Return a value in few digits, nothing for None."""
    return "" if value is None else f"{value:.6g}"


def ago(seconds: float) -> str:
    """Return a duration in its largest unit: ``3 h``."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "0 s"


def show(
    run: Annotated[Path, typer.Argument(help="A run's directory, or one of runs.", show_default=False)],
    as_json: console.AsJson = False,
) -> None:
    """Show the latest value of each tag of a run, and its checkpoints; of a directory of runs, list them."""
    if _holds_runs(run):
        runs(run, as_json)
        return
    found = read_run(run)
    if as_json:
        latest = {tag: {"step": each.step, "value": each.value} for tag, each in found.latest.items()}
        checkpoints = [checkpoint_document(each) for each in found.checkpoints]
        console.print_json({"kind": "run", **_document_of(found), "latest": latest, "checkpoints": checkpoints})
        return
    out = console.output()
    for label, value in _facts(found, time.time()):
        out.print(console.fact(label, value))
    if found.latest:
        out.print("", _latest_table(found), sep="\n")
    if found.checkpoints:
        out.print("", checkpoint_table(found.checkpoints), sep="\n")


def _holds_runs(path: Path) -> bool:
    """Say whether a directory is none of a run's and holds some."""
    if not path.is_dir() or is_run(path):
        return False
    try:
        return bool(find_runs(path))
    except NotFound:
        return False


def _facts(run: Run, now: float) -> Iterator[tuple[str, str]]:
    """Yield what there is to tell of a run, each with its label."""
    yield "run", f"{run.path} ({decimal(run.size)}, last written {ago(now - run.changed)} ago)"
    yield "agent", run.agent or "not known"
    yield "steps", _progress(run) or "none"
    yield "best score", "none" if run.best_score is None else f"{_number(run.best_score)} ({run.best_metric})"
    if not run.latest:
        yield "metrics", "none"
    if not run.checkpoints:
        yield "checkpoints", "none"


def _latest_table(run: Run) -> Table:
    """Return a table of the latest value of each tag, and the timestep it is of."""
    table = console.table("tag", "latest value", "timestep", right=("latest value", "timestep"))
    for tag, latest in run.latest.items():
        table.add_row(console.cell(tag), console.cell(_number(latest.value)), console.cell(str(latest.step)))
    return table


_MAX_WIDTH = 120
"""Characters of a picture's line on a wide terminal, and where there is none."""


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or directories of runs.", show_default=False)],
    tag: Annotated[str, typer.Option(help='What to draw: "Loss / Policy loss", say.', show_default=False)],
    output: Annotated[Path | None, typer.Option(help="Draw into this file instead, .png or .svg.")] = None,
) -> None:
    """Draw a tag's curves in the terminal or into a file, with a band.

    Of several runs it shows their mean and standard deviation, of a run of many seeds the standard error of the mean.
    """
    if output is not None:
        check_output(output)
    picture = _picture_of(runs, tag)
    out = console.output()
    if output is not None:
        write_figure(picture, output)
        out.print(console.cell(str(output)))
    else:
        for line in drawn(picture, min(out.width, _MAX_WIDTH), ascii_only=out.options.ascii_only):
            out.print(line)
    for line in legend(picture):
        out.print(line)


def _picture_of(runs: list[Path], tag: str) -> Picture:
    """Return the curves of a tag; a run that has no value of it or cannot be read is passed over with a warning.

    Args:
        runs: runs, files of their metrics, or directories of runs.
        tag: the tag.

    Raises:
        NotFound: if there is no run, or none with metrics that can be read.
        InvalidValue: if no run has the tag, or only values that are not finite; lists the known tags, and the nearest.
    """
    found = dict(_metrics_of(dict.fromkeys(path for run in runs for path in _with_metrics(run))))
    if not found:
        raise NotFound("none of the runs can be read")
    drawable = {path: curve_of(metrics[tag]) for path, metrics in found.items() if tag in metrics}
    curves = {path: curve for path, curve in drawable.items() if len(curve.steps)}
    known = {name for metrics in found.values() for name in metrics}
    if tag not in known:
        raise InvalidValue(f"unknown tag `{tag}`{did_you_mean(tag, known)}")
    if not curves:
        raise InvalidValue(f"every value of `{tag}` is NaN or infinite; there is nothing to draw")
    if absent := [str(path) for path in found if path not in curves]:
        console.warn(f"no value of `{tag}` in {', '.join(absent)}")
    return Picture(shown(tag), _labelled(curves), _spread(curves, found, tag))


def _spread(curves: Mapping[Path, Curve], found: Mapping[Path, dict[str, Series]], tag: str) -> Spread | None:
    """Return the mean of several runs, or that of the seeds of one."""
    spread = spread_of(list(curves.values()))
    if len(curves) == 1:
        ((path, mean),) = curves.items()
        if (error := found[path].get(tag + STANDARD_ERROR)) is not None:
            spread = spread_of_seeds(mean, curve_of(error))
    return spread if len(spread.steps) else None


def _metrics_of(runs: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Series]]]:
    for run in runs:
        try:
            yield run, read_metrics(run)
        except OSError as error:
            console.warn_unreadable(run, error)


def _with_metrics(path: Path) -> list[Path]:
    try:
        if has_metrics(path):
            return [path]
    except OSError:
        return [path]  # reading it will tell why it cannot be read
    if not path.exists():
        raise NotFound(f"there is no run at `{path}`")
    found = [written for run in find_runs(path) for written in _written(run)]
    if not found:
        raise NotFound(f"there are no metrics in `{path}`")
    return found


def _written(run: Path) -> list[Path]:
    """Return a run that has metrics, or those of its seeds where each of them is written as a run of its own."""
    if has_metrics(run):
        return [run]
    return [seed for seed in find_runs(run / SEEDS) if has_metrics(seed)] if (run / SEEDS).is_dir() else []


def _labelled(curves: dict[Path, Curve]) -> dict[str, Curve]:
    """Return the curves by the name of the run, or by its path where two runs have one name."""
    counts = Counter(path.name for path in curves)
    return {
        shown(path.name if path.name and counts[path.name] == 1 else str(path)): curve for path, curve in curves.items()
    }
