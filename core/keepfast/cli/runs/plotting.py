"""``keepfast plot``: curves of several runs, in the terminal or as a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from keepfast._system.remote.addresses import address_of
from keepfast.cli import console
from keepfast.errors import InvalidValue, NotFound, did_you_mean, shown
from keepfast.metrics.frames import Series
from keepfast.metrics.reading import has_metrics, read_metrics
from keepfast.metrics.spread import Curve, Spread, curve_of, spread_of, spread_of_seeds
from keepfast.pictures.figure import check_output, write_figure
from keepfast.pictures.picture import Picture, drawn, legend
from keepfast.plugins.locations import located
from keepfast.runs.loops.seeds import SEEDS, STANDARD_ERROR
from keepfast.runs.reading import find_runs
from keepfast.runs.uploading.listing import holds_runs, list_remote_runs

_MAX_WIDTH = 120
"""Characters of a picture's line on a wide terminal, and where there is none."""


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or directories of runs.", show_default=False)],
    tag: Annotated[str, typer.Option(help='What to draw: "Loss / Policy loss", say.', show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw into this file instead, .png or .svg.")
    ] = None,
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
    if (address := address_of(path)) is not None:
        several = list_remote_runs(address, console.warn_unreadable) if holds_runs(address) else None
        return [located(run) for run in ([path] if several is None else [run.path for run in several])]
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
