"""``keepfast plot``: the curves of one tag, of one run or of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from keepfast.cli import _console
from keepfast.cli._figure import check_output, write_figure
from keepfast.cli._picture import Picture, drawn, legend
from keepfast.errors import InvalidValue, NotFound, did_you_mean
from keepfast.metrics.reading import Series, has_metrics, read_metrics
from keepfast.metrics.spread import Curve, curve_of, spread_of
from keepfast.runs import find_runs

MAX_WIDTH = 120
"""Characters of a picture's line on a wide terminal, and where there is none."""


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or directories of runs.", show_default=False)],
    tag: Annotated[str, typer.Option(help='What to draw: "Loss / Policy loss", say.', show_default=False)],
    output: Annotated[Path | None, typer.Option(help="Draw into this file instead, .png or .svg.")] = None,
) -> None:
    """Draw a tag's curves in the terminal or into a file; of several runs also their mean and standard deviation."""
    if output is not None:
        check_output(output)
    picture = picture_of(runs, tag)
    console = _console.output()
    if output is not None:
        write_figure(picture, output)
        console.print(Text(str(output)))
    else:
        for line in drawn(picture, min(console.width, MAX_WIDTH), ascii_only=console.options.ascii_only):
            console.print(line)
    for line in legend(picture):
        console.print(line)


def picture_of(runs: list[Path], tag: str) -> Picture:
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
        _console.warn(f"no value of `{tag}` in {', '.join(absent)}")
    spread = spread_of(list(curves.values()))
    return Picture(_spelled_out(tag), _labelled(curves), spread if len(spread.steps) else None)


def _metrics_of(runs: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Series]]]:
    for run in runs:
        try:
            yield run, read_metrics(run)
        except OSError as error:
            _console.warn_unreadable(run, error)


def _with_metrics(path: Path) -> list[Path]:
    try:
        if has_metrics(path):
            return [path]
    except OSError:
        return [path]  # reading it will tell why it cannot be read
    if not path.exists():
        raise NotFound(f"there is no run at `{path}`")
    found = [run for run in find_runs(path) if has_metrics(run)]
    if not found:
        raise NotFound(f"there are no metrics in `{path}`")
    return found


def _labelled(curves: dict[Path, Curve]) -> dict[str, Curve]:
    """Return the curves by the name of the run, or by its path where two runs have one name."""
    counts = Counter(path.name for path in curves)
    return {
        _spelled_out(path.name if path.name and counts[path.name] == 1 else str(path)): curve
        for path, curve in curves.items()
    }


def _spelled_out(name: str) -> str:
    """Return a name whose bytes are no UTF-8 in characters that can be drawn."""
    return name.encode("utf-8", "backslashreplace").decode()
